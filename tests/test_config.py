"""Recipes: read from TOML, checked, and back."""

import re

import pytest

from digits import config
from digits.console import BadInput


def test_every_recipe_of_the_kit_can_be_read_and_is_compared_with_itself():
    assert config.recipe_names() == ["best-cpu", "best-gpu", "deotte", "photo", "quick", "seed", "small", "standard"]
    for name in config.recipe_names():
        recipe = config.load_recipe(name)
        assert (recipe.name, recipe.base) == (name, name)
        assert config.differences(recipe, config.reference(recipe)) == {}


def test_the_comment_on_top_of_a_recipe_gives_its_command_and_what_was_measured():
    for path in config.RECIPES.glob("*.toml"):
        comment = path.read_text(encoding="utf-8").partition("\n\n")[0]
        command = "python src/train.py" if path.stem == "standard" else f"python src/train.py --recipe {path.stem}"
        assert command in comment
        assert re.search(r"\b20\d\d\b", comment) or "Not run" in comment, path


def test_every_field_has_a_meaning_and_a_default_in_its_own_range():
    for key, value in config.flat(config.Recipe(name="")).items():
        field = config.fields()[key]
        assert field.meaning
        assert field.checked(value, key) == (tuple(value) if isinstance(value, list) else value)


def test_a_recipe_of_ones_own_says_what_differs_from_its_base(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "quick"\nepochs = 3\n[augmentation]\nzoom = 0.2\n')
    (tmp_path / "other.toml").write_text('base = "mine.toml"\nlearning_rate = 1\n')
    recipe = config.load_recipe(str(tmp_path / "other.toml"))
    assert (recipe.name, recipe.base, recipe.learning_rate) == ("other", "quick", 1.0)
    differences = config.differences(recipe, config.load_recipe("quick"))
    assert differences == {"epochs": (8, 3), "augmentation.zoom": (0.15, 0.2), "learning_rate": (0.02, 1.0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte = 1", "learning_rte is not a field of a recipe. Did you mean learning_rate? All fields: "),
        ("augmentation.rotation = 1", "augmentation.rotation is not a field of a recipe. Did you mean augmentation."),
        ("epochs = 1.5", "epochs = 1.5: expected a whole number from 1 to 10,000."),
        ("epochs = true", "epochs = true: expected a whole number from 1 to 10,000."),
        ("epochs = 0", "epochs = 0: expected a whole number from 1 to 10,000."),
        ("learning_rate = nan", "learning_rate = NaN: expected a number from 1e-08 to 10."),
        (f"learning_rate = 1{'0' * 400}", "000: expected a number from 1e-08 to 10."),
        ('tta.weight = "1"', 'tta.weight = "1": expected a number from 0 to 10.'),
        ("augmentation.keep_ink = 1", "augmentation.keep_ink = 1: expected true or false."),
        ("tta = 1", "tta is not a field of a recipe."),
        ('optimizer = "adamm"', 'optimizer = "adamm": expected one of adam, adamw, sgd, muon. Did you mean adam'),
        ("networks = []", "networks = []: expected a list of seed, compact,"),
        ('networks = ["compact", "vg"]', "Did you mean vgg?"),
        ("date = 2026-01-01", "date is not a field of a recipe."),
        ("epochs = 2026-01-01", 'epochs = "2026-01-01": expected a whole number'),
        ("epochs = ", "not a TOML file (Invalid value ("),
        ("base = 3", "base = 3: expected a recipe's name or file."),
        ('base = "standrad"', "There is no recipe 'standrad'. Did you mean standard? Expected best-cpu,"),
        ('base = "mine.toml"', "recipes that are based on each other"),
        ('base = "none.toml"', "none.toml: cannot be read (No such file or directory)"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_recipe_is_refused_with_file_key_value_and_what_was_expected(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as refusal:
        config.load_recipe(str(path))
    assert message in str(refusal.value)
    if "base" not in text:
        assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("learning_rte=1", "learning_rte is not a field of a recipe. Did you mean learning_rate? All fields: python"),
        ("epochs", "expected KEY=VALUE. All fields: python"),
        ("epochs=many", "expected a whole number from 1 to 10,000."),
        ("ema=1", "expected a number from 0 to 0.99999."),
        ("augmentation.keep_ink=yes", "expected true or false."),
        ("precision=float16", "expected one of auto, float32, mixed_bfloat16. Did you mean float32?"),
        ("networks=compact,vg", "expected a list of seed, compact"),
        ("name=x", "name is not a field of a recipe."),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_was_expected(assignment, message):
    with pytest.raises(BadInput) as refusal:
        config.set_values(config.load_recipe("quick"), [assignment])
    assert str(refusal.value).startswith(f"--set {assignment}: {message}")


def test_settings_of_the_command_line_have_their_fields_types_and_new_networks_a_member_each():
    assignments = (
        "epochs=20 learning_rate=1 augmentation.keep_ink=False networks=vgg,late48 tta.weight=.5 schedule=constant"
    )
    recipe = config.set_values(config.load_recipe("quick"), assignments.split())
    values = config.flat(recipe)
    assert (values["epochs"], values["learning_rate"], values["augmentation.keep_ink"]) == (20, 1.0, False)
    assert (recipe.networks, recipe.members, recipe.tta.weight) == (("vgg", "late48"), 2, 0.5)
    assert config.set_values(recipe, ["members=4", "networks=vgg"]).members == 4
    assert recipe.changed(epochs=None) == recipe


def test_a_saved_recipe_is_the_recipe_and_tells_what_differs(tmp_path):
    recipe = config.set_values(config.load_recipe("quick"), ["epochs=20", "tta.weight=.5", "networks=vgg,late48"])
    config.save_recipe(recipe, tmp_path / "mine.toml", "the command")
    assert (tmp_path / "mine.toml").read_text() == (
        '# the command\n\nbase = "quick"\nnetworks = ["vgg", "late48"]\nepochs = 20\ntta.weight = 0.5\nmembers = 2\n'
    )
    again = config.load_recipe(str(tmp_path / "mine.toml"))
    assert again == recipe.changed(name="mine")
    assert config.describe_differences(again) == (
        'differs from quick in networks = ["vgg", "late48"] (["compact"]), epochs = 20 (8), tta.weight = 0.5 (1), '
        "members = 2 (1)"
    )
    assert config.describe_differences(config.load_recipe("quick")) == ""
    for name in ("mine.toml", "quick.toml", "mine.tml"):
        with pytest.raises(BadInput, match=f"--save-recipe .*{name}"):
            config.save_recipe(recipe, tmp_path / name, "")


def test_the_list_of_settings_is_itself_a_recipe(tmp_path):
    for name in config.recipe_names():
        recipe = config.load_recipe(name)
        (tmp_path / "all.toml").write_text(config.describe_settings(recipe))
        assert config.load_recipe(str(tmp_path / "all.toml")) == recipe.changed(name="all", base="standard")


def test_networks_of_ones_own_are_read_from_beside_the_recipe_and_saved_with_it(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text("\ufeffdef lenet(input_shape, classes): ...\ndef other(): ...\n")
    (tmp_path / "mine.toml").write_text('\ufeffbase = "quick"\nnetworks = ["compact", "nets.py:lenet"]\n')
    recipe = config.load_recipe(str(tmp_path / "mine.toml"))
    assert (recipe.networks, recipe.members) == (("compact", "nets.py:lenet"), 2)
    assert recipe.sources == {"nets.py": (tmp_path / "nets.py").read_text(encoding="utf-8-sig")}
    (tmp_path / "elsewhere").mkdir()
    config.save_recipe(recipe, tmp_path / "elsewhere" / "again.toml", "")
    (tmp_path / "nets.py").unlink()
    assert config.load_recipe(str(tmp_path / "elsewhere" / "again.toml")).sources == recipe.sources
    (tmp_path / "elsewhere" / "nets.py").write_text("def lenet(): ...")
    with pytest.raises(BadInput, match="is another version of the recipe's network file"):
        config.save_recipe(recipe, tmp_path / "elsewhere" / "third.toml", "")
    assert config.set_values(recipe, ["networks=vgg"]).sources == {}
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert config.override(recipe, {"networks": ["nets.py:lenet"]}).sources == {"nets.py": "def lenet(): ..."}


@pytest.mark.parametrize(
    ("network", "text", "message"),
    [
        ("nets.py", "def lenet(): ...", "expected a list of seed, compact, vgg,"),
        ("none.py:lenet", "", "none.py cannot be read (No such file or directory)."),
        ("nets.py:lenet", b"\xff\xfe", "nets.py is not a text file in UTF-8."),
    ],
)
def test_a_network_file_that_cannot_be_used_is_refused(tmp_path, monkeypatch, network, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput) as refusal:
        config.set_values(config.load_recipe("quick"), [f"networks=compact,{network}"])
    assert message in str(refusal.value)
