"""A page's styles, script and type: no numerics, so that a page can be there before they are."""

import base64
import json
from collections.abc import Callable
from importlib import resources

from step_analysis.report.palette import style_variables
from step_analysis.report.typeface import WEIGHTS, Weight, typeface

_FONT_WEIGHTS = {"regular": 400, "semibold": 600}


def font_address(weight: Weight) -> str:
    """A font as an address that holds it."""
    return f"data:font/ttf;base64,{base64.b64encode(typeface(weight).data).decode()}"


def page_styles(font: Callable[[Weight], str] = font_address) -> str:
    """The style sheet; `font` gives a weight's address."""
    light, dark = style_variables("light"), style_variables("dark")
    faces = "".join(
        f'@font-face {{ font-family: "Inter Report"; font-weight: {_FONT_WEIGHTS[weight]}; '
        f"src: url({font(weight)}); }}\n"
        for weight in WEIGHTS
    )
    return (
        f"{faces}:root {{ color-scheme: light; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ "
        f"color-scheme: dark; {dark} }} }}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}\n"
        # Its specificity must equal that of the dark rules above to win over them.
        f"@media print {{ :root:root:root {{ color-scheme: light; {light} --paper: #fff; }} }}\n"
        f"{_resource('page.css')}"
    )


def page_script() -> str:
    """The script; it finds what it dresses by class, and #tip, #tips and #theme by name."""
    return _resource("page.js")


def _resource(name: str) -> str:
    return resources.files("step_analysis.report").joinpath(name).read_text(encoding="utf-8")


def script_safe(value: object) -> str:
    """JSON that can't end the element it stands in."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026")
