"""What a report page is made of: its sections, its style sheet and the few lines of script of its hover read-out.

Colours are Okabe and Ito's, told apart by colour-blind readers.
"""

from __future__ import annotations

from typing import NamedTuple


class Section(NamedTuple):
    """A part of the page."""

    title: str
    lead: str  # how to read it, HTML
    body: str  # HTML


STYLE = """
:root {
  --paper: #fff; --ink: #1f2328; --soft: #656d76; --rule: #d8dee4; --card: #f6f8fa;
  --ours: #0072b2; --naive: #d98a00; --band: #1f232818; --interval: #0072b222; --inner: #0072b244; --second: #009e73;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0f1318; --ink: #e6edf3; --soft: #9198a1; --rule: #30363d; --card: #181e26;
    --ours: #4db5f2; --naive: #f0a830; --band: #e6edf322; --interval: #4db5f230; --inner: #4db5f25c; --second: #2fc79a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 17px; margin: 34px 0 0; }
h3 { font-size: 14px; margin: 14px 0 0; }
p { margin: 2px 0 10px; color: var(--soft); }
p b { color: var(--ink); }
.sub { margin: 4px 0 18px; }
.cards { display: flex; flex-wrap: wrap; gap: 10px; }
.cards div { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 10px 14px; }
.cards b { display: block; font-size: 19px; }
.cards span { color: var(--soft); font-size: 12.5px; }
.chart { width: 100%; height: auto; display: block; overflow: visible; }
.chart .tick { fill: var(--soft); font-size: 11.5px; }
.grid { stroke: var(--rule); }
.mark, .cursor { stroke: var(--soft); }
.cursor { stroke-dasharray: 2 3; visibility: hidden; }
.chart:hover .cursor { visibility: visible; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
.actual { stroke: var(--ink); }
.ours { stroke: var(--ours); }
.naive { stroke: var(--naive); stroke-dasharray: 5 3; stroke-width: 1.4; }
.other { stroke: var(--soft); stroke-dasharray: 1 3; }
.band { fill: var(--band); stroke: none; }
.level { stroke: var(--soft); stroke-dasharray: 4 4; }
.level0 { stroke: var(--ours); }
.level1 { stroke: var(--second); }
.level2 { stroke: var(--naive); }
.level3 { stroke: var(--ink); }
.area-interval { fill: var(--interval); stroke: none; }
.area0 { fill: #b8bec6; } .area1 { fill: #f0c35e; } .area2 { fill: #e69f00; } .area3 { fill: #8fd0b8; }
.area4 { fill: #009e73; } .area5 { fill: #0072b2; } .area6 { fill: #56b4e9; } .area7 { fill: #cc79a7; }
.area0-key { stroke: #b8bec6; } .area1-key { stroke: #f0c35e; } .area2-key { stroke: #e69f00; }
.area3-key { stroke: #8fd0b8; } .area4-key { stroke: #009e73; } .area5-key { stroke: #0072b2; }
.area6-key { stroke: #56b4e9; } .area7-key { stroke: #cc79a7; }
.area-inner { fill: var(--interval); stroke: none; }
.area-interval-key { stroke: var(--interval); } .area-inner-key { stroke: var(--inner); }
.band-key { stroke: var(--band); }
[class$="-key"] { stroke-width: 9; stroke-linecap: butt; }
.spark { width: 150px; height: 34px; display: block; overflow: visible; }
.spark .line { stroke-width: 1.2; }
.spark circle { fill: none; stroke: var(--naive); stroke-width: 1.5; }
details { border-top: 1px solid var(--rule); margin-top: 30px; }
summary { font-size: 20px; font-weight: 600; padding: 12px 0 0; cursor: pointer; }
summary span { color: var(--soft); font-size: 14px; font-weight: 400; margin-left: 8px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin: 0 0 2px 56px; }
.legend svg { vertical-align: -1px; margin-right: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
th { font-weight: 600; color: var(--soft); }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px;
  overflow-x: auto; font-size: 12.5px; }
#tip { position: absolute; display: none; pointer-events: none; white-space: pre; font-size: 12.5px; padding: 6px 10px;
  background: var(--card); border: 1px solid var(--rule); border-radius: 6px; box-shadow: 0 2px 8px #0003;
  font-variant-numeric: tabular-nums; }
@media print { section { break-inside: avoid; } }
"""

SCRIPT = """
const tip = document.getElementById('tip');
const text = v => v === null ? '\\u2013' : v;
for (const svg of document.querySelectorAll('.chart')) {
  const p = JSON.parse(svg.dataset.points), cursor = svg.querySelector('.cursor'), width = svg.viewBox.baseVal.width;
  const when = at => at === null ? '' : p.times ? new Date(at * 1000).toISOString().slice(0, 16).replace('T', ' ')
    : at.toLocaleString('en');
  svg.addEventListener('mousemove', e => {
    if (!p.x.length) return;
    const box = svg.getBoundingClientRect(), x = (e.clientX - box.left) * width / box.width;
    let i = 0;
    p.x.forEach((v, j) => { if (Math.abs(v - x) < Math.abs(p.x[i] - x)) i = j; });
    cursor.setAttribute('x1', p.x[i]);
    cursor.setAttribute('x2', p.x[i]);
    tip.textContent = [when(p.at[i]), ...p.lines.map(l => l.name + ': ' + text(l.y[i]))].join('\\n');
    tip.style.display = 'block';
    const fits = e.pageX + tip.offsetWidth + 24 < document.documentElement.clientWidth;
    tip.style.left = (fits ? e.pageX + 14 : e.pageX - tip.offsetWidth - 14) + 'px';
    tip.style.top = (e.pageY + 14) + 'px';
  });
  svg.addEventListener('mouseleave', () => { tip.style.display = 'none'; });
}
"""
