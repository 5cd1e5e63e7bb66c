"""Procedurally drawn scenes whose local appearance is ambiguous and whose arrangement is not.

The rules of every scene:

- the sky is above and one ground below: water, road or grass, never two of them;
- there is a line of trees behind water, a row of buildings behind a road, either behind grass;
- windows are only in buildings, in rows and columns;
- vehicles are boats (hull and sail) on water and cars (body, cabin, wheels) on a road;
- trees (a crown on a trunk) stand on grass, and far away beside a road;
- what is nearer is larger, lower in the image, and hides what is behind it.

Colours tell little: sky, water and window share one, road, building and vehicle a second, grass
and tree a third; three grounds in four take the colour of any group; illumination, shading, haze
and noise differ from image to image. So a classifier of local patches cannot tell the classes
apart, although a scene as a whole can hardly be read in two ways.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from segadv_jax import VOID

CLASS_NAMES = ("sky", "building", "window", "tree", "water", "road", "grass", "vehicle")
SKY, BUILDING, WINDOW, TREE, WATER, ROAD, GRASS, VEHICLE = range(8)

# The RGB means of the three groups, and each class's group, in the order of the classes.
_COLOURS = np.array([[108, 132, 158], [128, 124, 118], [102, 132, 98]], np.float64)
_GROUPS = (0, 1, 0, 2, 0, 1, 2, 1)

# An image and its class indices, 255 = void.
Scene = tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]


def draw(random: np.random.RandomState) -> Scene:
    """Draws a scene: its image and its label, 80 to 96 pixels high and 104 to 128 wide."""
    scene = _Scene(random, height=random.randint(80, 97), width=random.randint(104, 129))
    horizon = int(scene.height * random.uniform(0.38, 0.58))
    ground = (WATER, ROAD, GRASS)[random.randint(3)]
    if ground == WATER or (ground == GRASS and random.rand() < 0.5):
        _forest(scene, horizon)
    else:
        _skyline(scene, horizon)
    group = random.randint(3) if random.rand() < 0.75 else _GROUPS[ground]
    scene.shape(ground, "rectangle", [0, horizon, scene.width, scene.height], scene.colour(group))
    for depth in np.sort(random.uniform(0.03, 0.95, random.randint(3, 7))):  # 0 far, 1 near
        x = random.uniform(0.02, 0.98) * scene.width
        y = horizon + depth * (scene.height - horizon)
        size = scene.height * (0.10 + 0.28 * depth)
        if ground == WATER:
            _boat(scene, x, y, size)
        elif ground == GRASS or (depth < 0.25 and random.rand() < 0.6):
            _tree(scene, x, y, 1.4 * size)
        else:
            _car(scene, x, y, size)
    if random.rand() < 0.15:
        x, y = random.uniform(0, scene.width), random.uniform(0, scene.height)
        a, b = random.uniform(4, 12, 2)
        ImageDraw.Draw(scene.label).ellipse([x - a, y - b, x + a, y + b], fill=VOID)
    return _appearance(random, np.asarray(scene.image, np.float64)), np.array(scene.label)


class _Scene:
    """An image and its label map; each shape is drawn in both at once."""

    def __init__(self, random, height, width):
        self.random, self.height, self.width = random, height, width
        self.label = Image.new("L", (width, height), SKY)
        self.image = Image.new("RGB", (width, height), self.colour(_GROUPS[SKY]))

    def colour(self, group):
        """Draws a colour near the mean of a group."""
        moved = _COLOURS[group] + self.random.normal(0, 22) + self.random.normal(0, 5, 3)
        return tuple(int(value) for value in np.clip(moved, 0, 255))

    def shape(self, class_, kind, points, colour, void_border=False):
        """Draws ImageDraw's shape `kind`; its border may be a thin line of void."""
        border = VOID if void_border else None
        getattr(ImageDraw.Draw(self.label), kind)(points, fill=class_, outline=border)
        getattr(ImageDraw.Draw(self.image), kind)(points, fill=colour)


def _forest(scene, horizon):
    """A closed line of trees; the ground, drawn later, cuts it off at the horizon."""
    random, x = scene.random, -4.0
    colour = scene.colour(_GROUPS[TREE])
    while x < scene.width + 8:
        radius, height = random.uniform(4, 9), random.uniform(6, 18)
        scene.shape(TREE, "rectangle", [x - radius, horizon - 5, x + radius, horizon], colour)
        crown = [x - radius, horizon - height, x + radius, horizon + height]
        scene.shape(TREE, "ellipse", crown, colour)
        x += random.uniform(0.6, 1.3) * radius


def _skyline(scene, horizon):
    """Buildings with windows, side by side or with a gap between."""
    random = scene.random
    x = -random.randint(0, 12)
    while x < scene.width:
        width, height = random.randint(12, 30), random.randint(10, int(0.85 * horizon))
        box = [x, horizon - height, x + width - 1, horizon]
        scene.shape(BUILDING, "rectangle", box, scene.colour(_GROUPS[BUILDING]))
        pane, pitch = random.randint(2, 4), random.randint(5, 8)
        colour = scene.colour(_GROUPS[WINDOW])
        for top in range(horizon - height + 3, horizon - pane - 3, pitch):
            for left in range(x + 3, x + width - pane - 2, pitch):
                scene.shape(WINDOW, "rectangle", [left, top, left + pane, top + pane], colour)
        x += width + (random.randint(3, 14) if random.rand() < 0.4 else 0)


def _boat(scene, x, y, size):
    """A hull with a triangular sail above it; `x`, `y` is the middle of the water line."""
    random, void = scene.random, scene.random.rand() < 0.3
    colour = scene.colour(_GROUPS[VEHICLE])
    deck, half = y - 0.25 * size, 0.6 * size
    mast = x + random.uniform(-0.2, 0.2) * size
    sail = [(mast, deck - size), (mast, deck), (mast + random.choice([-0.5, 0.5]) * size, deck)]
    hull = [(x - half, deck), (x + half, deck), (x + 0.6 * half, y), (x - 0.6 * half, y)]
    scene.shape(VEHICLE, "polygon", sail, colour, void)
    scene.shape(VEHICLE, "polygon", hull, colour, void)


def _car(scene, x, y, size):
    """A body with a cabin on it and two wheels; `x`, `y` is the middle between the wheels."""
    void, half, wheel = scene.random.rand() < 0.3, 0.6 * size, 0.12 * size
    colour = scene.colour(_GROUPS[VEHICLE])
    roof = [(x - 0.5 * half, y - 0.75 * size), (x + 0.4 * half, y - 0.75 * size)]
    cabin = [*roof, (x + 0.7 * half, y - 0.4 * size), (x - 0.7 * half, y - 0.4 * size)]
    scene.shape(VEHICLE, "polygon", cabin, colour, void)
    body = [x - half, y - 0.45 * size, x + half, y - wheel]
    scene.shape(VEHICLE, "rectangle", body, colour, void)
    for middle in (x - 0.6 * half, x + 0.6 * half):
        tyre = [middle - wheel, y - 2 * wheel, middle + wheel, y]
        scene.shape(VEHICLE, "ellipse", tyre, colour)


def _tree(scene, x, y, size):
    """A round crown on a trunk; `x`, `y` is the foot."""
    void, radius, trunk = scene.random.rand() < 0.3, 0.32 * size, max(0.05 * size, 1)
    colour = scene.colour(_GROUPS[TREE])
    scene.shape(TREE, "rectangle", [x - trunk, y - 0.5 * size, x + trunk, y], colour)
    crown = [x - radius, y - size, x + radius, y - 0.3 * size]
    scene.shape(TREE, "ellipse", crown, colour, void)


def _appearance(random, image):
    """Lights f64[H,W,3], adds haze and noise, and returns u8[H,W,3]."""
    height, width = image.shape[:2]
    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    # Light falls off in one direction and has a colour.
    shade = 1 + random.uniform(-0.15, 0.15) * down + random.uniform(-0.15, 0.15) * across
    image = image * shade[..., None] * random.uniform(0.8, 1.2) * random.uniform(0.9, 1.1, 3)
    for _ in range(random.randint(1, 4)):
        y, x = random.uniform(-1, 1, 2)
        spread = random.uniform(0.15, 0.4)
        haze = np.exp(-((down - y) ** 2 + (across - x) ** 2) / (2 * spread**2))[..., None]
        image = image + 0.9 * haze * (image.mean(axis=(0, 1)) - image)
    # Soft blotches, then grain.
    blotches = random.normal(0, 7, (12, 16, 3))
    rows, columns = np.linspace(0, 11, height), np.linspace(0, 15, width)
    blotches = _between(rows, 12) @ blotches.transpose(2, 0, 1) @ _between(columns, 16).T
    grain = random.normal(0, 12, (height, width, 1)) + random.normal(0, 8, (height, width, 3))
    image = image + blotches.transpose(1, 2, 0) + grain
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _between(positions, n):
    """The matrix [len(positions), n] that interpolates linearly between n points."""
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(n)))
