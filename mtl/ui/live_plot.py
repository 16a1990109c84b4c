"""A Plotly plot that is updated in place, so it keeps its zoom, its hidden curves and its hover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import plotly

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
EMPTY: Any = {"data": [], "layout": {}}

_JS = """
const box = element.querySelector('.live-plot');
const draw = () => {
  const figure = props.value || {data: [], layout: {}};
  const style = getComputedStyle(box);
  const layout = Object.assign({}, figure.layout, {
    uirevision: "keep", autosize: true,
    font: {color: style.color, family: style.fontFamily, size: 12},
    hoverlabel: {align: 'left'},
    showlegend: (figure.data || []).some(trace => trace.type === 'scatter'),
  });
  let data = figure.data || [];
  if (box.offsetWidth < 480) {
    // on a phone the texts of a heatmap, its scale and a list of names beside the plot would leave no room for it:
    // the texts are numbered, and all of it is in the hover
    for (const axis of ['xaxis', 'yaxis']) if (layout[axis] && layout[axis].ticktext)
      layout[axis] = Object.assign({}, layout[axis], {ticktext: layout[axis].ticktext.map((_, i) => i + 1)});
    data = data.map(trace => trace.type === 'heatmap' ? Object.assign({}, trace, {showscale: false}) : trace);
    if (layout.legend && layout.legend.orientation === 'v') layout.showlegend = false;
    // curves of one task, named by its `meta`, share one entry of the legend
    const named = new Set();
    data = data.map(trace => {
      if (!trace.meta) return trace;
      const first = !named.has(trace.meta);
      named.add(trace.meta);
      const hover = (trace.hovertemplate || '').replace('%{fullData.name}', () => trace.name);
      return Object.assign({}, trace,
        {legendgroup: trace.meta, showlegend: first, name: trace.meta, hovertemplate: hover});
    });
  }
  // numbers in the cells of a map are left out where they would run into each other; each is in its hover
  if (layout.meta && layout.meta.room > box.offsetWidth)
    data = data.map(trace => Object.assign({}, trace, {texttemplate: ''}));
  if (window.Plotly) Plotly.react(box, data, layout, {responsive: true, displaylogo: false,
    modeBarButtonsToRemove: ['lasso2d', 'select2d', 'autoScale2d']});
};
watch('value', draw);
const wait = () => window.Plotly ? draw() : setTimeout(wait, 100);
wait();
new ResizeObserver(() => box.offsetWidth && box._fullLayout && Plotly.Plots.resize(box)).observe(box);
new MutationObserver(draw).observe(document.body, {attributes: true, attributeFilter: ['class']});
"""


def live_plot(label: str, *, height: int = 300, elem_id: str | None = None, visible: bool = True) -> gr.HTML:
    """Make a plot component; its value is a figure dictionary.

    Args:
        label: What it shows, for screen readers.
        height: In pixels.
        elem_id: Of the component.
        visible: Whether it shows at first.
    """
    gr.set_static_paths([PLOTLY])
    return gr.HTML(
        value=EMPTY,
        html_template=f'<div class="live-plot" role="img" aria-label="{label}" style="height:{height}px"></div>',
        head=f'<script src="/gradio_api/file={PLOTLY.as_posix()}"></script>',
        js_on_load=_JS,
        elem_id=elem_id,
        elem_classes="plot-box",
        visible=visible,
        min_height=height,
    )
