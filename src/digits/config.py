"""What a run is: every setting of training and prediction, with its default, once."""

import dataclasses
from dataclasses import dataclass, field

NETWORKS = ("seed", "compact", "vgg", "pooled5", "pooled7", "deotte", "m3", "m5", "m7", "committee", "resnet")
"""Names of the networks in `networks.py`, which is not imported here because it loads Keras."""


@dataclass(frozen=True)
class Augmentation:
    """How far a training image may be warped, uniformly to either side of 0."""

    rotation_degrees: float = 0.0
    shift_pixels: float = 0.0
    zoom: float = 0.0
    """Share by which width and height grow or shrink, each on its own."""
    shear_degrees: float = 0.0
    keep_ink: bool = False
    """Stop shifts at the picture's edge, so that no ink leaves it (Byerly et al. 2020)."""

    @property
    def any(self) -> bool:
        """Whether it changes anything."""
        return bool(self.rotation_degrees or self.shift_pixels or self.zoom or self.shear_degrees)


@dataclass(frozen=True)
class Tta:
    """Test-time augmentation: the views of an image whose probabilities are averaged, itself among them."""

    shift_pixels: float = 0.0
    """0: none; else also the image moved this far left, right, up and down."""
    rotation_degrees: float = 0.0
    """0: none; else also the image turned this far either way."""
    weight: float = 1.0
    """How much each of those views counts beside the image itself."""

    @property
    def any(self) -> bool:
        """Whether there is more than one view."""
        return bool(self.shift_pixels or self.rotation_degrees)


@dataclass(frozen=True)
class Recipe:
    """One way to train: a network, how it is fitted, and how it predicts."""

    name: str
    networks: tuple[str, ...]
    """Names in `networks.NETWORKS`; member m of a fold takes the m-th, round and round."""
    epochs: int
    batch_size: int
    optimizer: str = "adamw"
    """adam, adamw, sgd (Nesterov, momentum 0.9) or muon."""
    learning_rate: float = 4e-3
    """The peak."""
    schedule: str = "one-cycle"
    """constant, one-cycle, exponential or steps: see `optimizers.learning_rates`."""
    warm_up: float = 0.2
    """Share of the steps in which one-cycle's rate rises."""
    decay: float = 0.95
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: float = 1.0
    """Factor on the network's dropout rates, 0 for none: it costs a fifth of the time, and pays in long runs only."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    clean_epochs: int = 0
    """How many of the last epochs see the images as they are (Matuzas 2020)."""
    ema: float = 0.0
    """Momentum of the exponential moving average of the weights, 0 for none; it warms up as min(ema, (1+t)/(10+t))."""
    tta: Tta = field(default_factory=Tta)
    precision: str = "auto"
    """float32, mixed_bfloat16, or auto: bfloat16 where the processor multiplies its matrices in hardware."""
    folds: int = 5
    """Stratified folds; 1: one 90/10 split."""
    members: int = 1
    """Networks a fold, averaged."""
    evaluate_every: int = 0
    """Score the held-out fold after every so many epochs, for the learning curves alone; 0: only at the end."""

    def changed(self, **settings) -> "Recipe":
        """Return this recipe with some settings replaced; None leaves a setting as it is."""
        return dataclasses.replace(self, **{name: value for name, value in settings.items() if value is not None})


AUGMENTATION = Augmentation(rotation_degrees=12, shift_pixels=2.5, zoom=0.15, shear_degrees=10, keep_ink=True)

SEED = Recipe(
    name="seed",
    networks=("seed",),
    epochs=10,
    batch_size=32,
    optimizer="adam",
    schedule="constant",
    learning_rate=1e-3,
    precision="float32",
    evaluate_every=1,
    folds=1,
)
"""The README that this kit grew from, to the letter: `python src/train.py --recipe seed --source keras`.

On the competition's data, two cores of an Intel Xeon with AMX, 2026-11: 98.19 ± 0.21 % of 4,200 held-out digits, 74 s.
"""

QUICK = Recipe(
    name="quick",
    networks=("compact",),
    epochs=10,
    batch_size=256,
    learning_rate=1e-2,
    weight_decay=0.05,
    label_smoothing=0.05,
    dropout=0.0,
    augmentation=AUGMENTATION,
    ema=0.99,
    tta=Tta(shift_pixels=1),
    folds=1,
)
"""A minute's work: `python src/train.py --recipe quick`.

Two cores of an Intel Xeon with AMX, 2026-11: seeds 0, 1, 2 read 99.40, 99.48, 99.52 % (± 0.11 each) of the same 4,200
held-out digits right, a hard tenth, in 70 s; `--folds 10`: 99.590 ± 0.031 % of 42,000 out of fold.
"""

STANDARD = QUICK.changed(
    name="standard",
    epochs=36,
    dropout=1.0,
    ema=0.999,
    tta=Tta(shift_pixels=1, rotation_degrees=8),
    evaluate_every=2,
    folds=5,
)
"""The default: `python src/train.py`.

Two cores of an Intel Xeon with AMX, 2026-11: 99.638 ± 0.029 % of 42,000 out of fold, 1,044 s.
"""

BEST_CPU = STANDARD.changed(
    name="best-cpu",
    networks=("resnet", "pooled5", "pooled7"),
    members=3,
    epochs=20,
    tta=Tta(shift_pixels=1),
    evaluate_every=5,
)
"""A night on two cores: three architectures a fold, `python src/train.py --recipe best-cpu --run best-cpu`.

Made to be run in pieces: the same command goes on, and `--minutes M` ends a piece. Two cores of an AMD EPYC without
AVX-512 or AMX, 2026-11: one fold of five took 100 minutes, and its three networks together read 99.655 ± 0.064 % of its
8,400 digits right, as `standard` does of the same; the other folds have not been run.
"""

BEST_GPU = STANDARD.changed(
    name="best-gpu",
    networks=("committee", "m3", "m5", "m7", "resnet"),
    members=5,
    epochs=60,
    batch_size=128,
    learning_rate=4e-3,
    clean_epochs=1,
    ema=0.999,
)
"""The heavy networks, for a GPU: `KERAS_BACKEND=jax python src/train.py --recipe best-gpu`.

Not run at full size; on JAX without a GPU each of its networks was fitted to 270 digits for one epoch, which it is for
showing that it runs and nothing else.
"""

DEOTTE = Recipe(
    name="deotte",
    networks=("deotte",),
    epochs=45,
    batch_size=64,
    optimizer="adam",
    schedule="exponential",
    learning_rate=1e-3,
    decay=0.95,
    augmentation=Augmentation(rotation_degrees=10, shift_pixels=2.8, zoom=0.1),
    precision="float32",
    evaluate_every=1,
    folds=1,
    members=15,
)
"""Chris Deotte's fifteen networks (Kaggle 2018), the yardstick: `python src/train.py --recipe deotte`.

His networks each had a 90/10 split of their own. Not run whole: as the benchmark fits one of them, on two cores of an
Intel Xeon with AMX, 2026-11, nine epochs took 281 s and read 98.98 % of held-out digits right (n = 12,600, three
tenths); all would take 5.8 hours, extrapolated.
"""

RECIPES = {recipe.name: recipe for recipe in (SEED, QUICK, STANDARD, BEST_CPU, BEST_GPU, DEOTTE)}


@dataclass(frozen=True)
class Settings:
    """One training command, whole: the recipe, the data, and how the work is done."""

    recipe: Recipe
    seed: int = 0
    fold_seed: int = 0
    """Of the split alone, so that runs with other seeds share their folds and can be compared row by row."""
    source: str = "auto"
    limit: int | None = None
    deterministic: bool = False
    jobs: int | None = None
    """Networks fitted at a time; None: as the machine allows."""
    data_parallel: bool = False
    """One network at a time, each batch shared by all devices (JAX)."""
    allow_leak: bool = False
    pseudo_labels: str | None = None
    """The run whose confident test predictions join training."""
