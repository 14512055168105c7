"""The page of draw.py in a real browser, driven through Chromium's DevTools."""

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request

import pytest
from tornado.websocket import websocket_connect

from test_drawing import running, sample  # noqa: F401 fixtures

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-port=0",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SEVEN = ((0.25, 0.2), (0.75, 0.2), (0.45, 0.85))


@pytest.fixture
def devtools(tmp_path):
    """The address of the DevTools of a fresh Chromium's only page."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError, IndexError):
                port = (tmp_path / "DevToolsActivePort").read_text(encoding="ascii").split()[0]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
                    yield next(each for each in json.load(answer) if each["type"] == "page")["webSocketDebuggerUrl"]
                break
            time.sleep(0.1)
        else:
            pytest.fail("chromium did not start")
    finally:
        browser.terminate()
        browser.wait(10)


async def draw_and_read(address, url, width):
    """Draw a seven with the mouse, and clear it.

    Return the answer, what is there in its place afterwards, the overflow in pixels, requests, and console lines.
    """
    connection = await websocket_connect(address, max_message_size=1 << 28)
    requests, console, number = [], [], 0

    async def call(method, **parameters):
        nonlocal number
        number += 1
        await connection.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(connection.read_message(), 30))
            if message.get("method") == "Network.requestWillBeSent":
                requests.append(message["params"]["request"]["url"])
            if message.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                console.append(message["params"])
            if message.get("id") == number:
                return message["result"]

    async def value(expression):
        return (await call("Runtime.evaluate", expression=expression, returnByValue=True))["result"]["value"]

    for domain in ("Network", "Runtime", "Log", "Page"):
        await call(f"{domain}.enable")
    await call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    await call("Page.navigate", url=url)
    while not await value("document.readyState === 'complete' && !!document.querySelector('canvas')"):
        await asyncio.sleep(0.1)
    box = await value(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('canvas').getBoundingClientRect())"
    )
    points = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in SEVEN]
    mouse = {"button": "left", "buttons": 1, "clickCount": 1}
    await call("Input.dispatchMouseEvent", type="mousePressed", x=points[0][0], y=points[0][1], **mouse)
    for (from_x, from_y), (to_x, to_y) in itertools.pairwise(points):
        for step in range(1, 9):
            x, y = from_x + (to_x - from_x) * step / 8, from_y + (to_y - from_y) * step / 8
            await call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **mouse)
    await call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **mouse)
    for _ in range(100):
        if await value("!busy && document.getElementById('answer').textContent !== '?'"):
            break
        await asyncio.sleep(0.1)
    answer = await value("document.getElementById('answer').textContent")
    overflow = await value("document.documentElement.scrollWidth - innerWidth")
    shown = "['answer', 'note', 'alike'].map((id) => byId(id).textContent)"
    cleared = await value(f"byId('clear').click(); {shown}")
    connection.close()
    return answer, cleared, overflow, requests, console


def test_a_digit_drawn_with_the_mouse_is_recognised_without_a_request_elsewhere(devtools, running):  # noqa: F811
    url = f"http://127.0.0.1:{running.server_port}/"
    for width in (380, 1400):
        answer, cleared, overflow, requests, console = asyncio.run(draw_and_read(devtools, url, width))
        assert answer == "7"
        assert (cleared[0], cleared[1][:17]) == ("?", "The picture shows")
        assert cleared[2], "no empty card"
        assert overflow <= 0, width
        assert {f"{url}predict", url} == {each for each in requests if not each.startswith("data:")}
        assert console == []
