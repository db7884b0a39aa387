"""What the tests of the shipped recipes share: the recipes, and the stage that makes an input."""

from hlas.inputs import Edge
from hlas.recipe import StageSpec
from hlas.validate import recipe_files

RECIPES = recipe_files()
NAMES = [path.stem for path in RECIPES]


def source(stage: StageSpec, key: str) -> str:
    """Name of the stage that makes the input."""
    (edge,) = stage.inputs[key]
    assert isinstance(edge, Edge)
    return edge.stage
