"""Look and hover read-out of the report page: its style sheet and its few lines of script."""

STYLE = """
:root {
  --paper: #fff; --ink: #1f2328; --soft: #656d76; --rule: #d8dee4; --card: #f6f8fa;
  --ours: #0072b2; --naive: #d98a00; --band: #1f232818;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0f1318; --ink: #e6edf3; --soft: #9198a1; --rule: #30363d; --card: #181e26;
    --ours: #4db5f2; --naive: #f0a830; --band: #e6edf322;
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
.band-key { stroke: var(--band); stroke-width: 9; stroke-linecap: butt; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin: 0 0 2px 56px; }
.legend svg { vertical-align: -1px; margin-right: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
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
