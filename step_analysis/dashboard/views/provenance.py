"""What ran, from where, and how the numbers on these pages are worked out."""

from html import escape

from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.views.material import Material
from step_analysis.report.method_notes import method_notes
from step_analysis.report.page import definitions


def draw_provenance(material: Material, canvas: Canvas) -> None:
    """Facts that all share, then each policy's own; then methods and versions."""
    content = material.known.content
    canvas.heading("Design and provenance")
    if content.shared_facts:
        canvas.put(f"<h3>All policies</h3>{definitions(content.shared_facts)}")
    for entry in content.provenance:
        sources = entry.sources
        more = f"\n… and {len(sources) - 10} more" if len(sources) > 10 else ""
        facts = [*entry.facts, ("Read from", "\n".join(sources[:10]) + more)]
        canvas.put(f"<h3>{canvas.swatch(entry.policy)}</h3>{definitions(facts)}")
    canvas.data(
        "provenance",
        ("policy", "fact", "value"),
        [
            *(("", fact.label, fact.value) for fact in content.shared_facts),
            *(
                (entry.policy, label, value)
                for entry in content.provenance
                for label, value in [*entry.facts, ("Read from", "; ".join(entry.sources))]
            ),
        ],
    )
    canvas.put('<section class="notes">')
    canvas.heading("How this was worked out")
    for heading, text in method_notes(content):
        canvas.put(f"<h3>{escape(heading)}</h3><p>{escape(text)}</p>")
    software = ", ".join(f"{name} {version}" for name, version in content.software)
    canvas.put(f"<h3>Software of this page</h3><p>{escape(software)}</p></section>")
