"""The report's style sheet: light and dark, from a phone's width to a desk's."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f8; --card: #ffffff; --ink: #1f2328;
  --quiet: #5b636c; --line: #dfe3e7; --link: #00598c; --mark: #fdf3e4; --good: #00694d;
  --doubt: #8a4b00; --bad: #a3362a; --code: #eef1f3; }
@media (prefers-color-scheme: dark) { :root { --page: #0e0f11; --card: #171717; --ink: #e7e9ec;
  --quiet: #a3abb4; --line: #30343a; --link: #74bde8; --mark: #33281a; --good: #4cc79f;
  --doubt: #eda94c; --bad: #f08a7c; --code: #24272b; }
  figure img { filter: invert(0.91) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main, header, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
a { color: var(--link); }
.quiet, figcaption, .key dt, .key small { color: var(--quiet); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem 1.4rem; margin: 1.1rem 0; }
.verdict { border-left: 6px solid var(--quiet); }
.verdict.good { border-left-color: var(--good); }
.verdict.doubt { border-left-color: var(--doubt); }
.verdict.bad { border-left-color: var(--bad); }
.verdict .sentence { font-size: 1.2rem; line-height: 1.45; max-width: 52rem; }
.badge { display: inline-block; font-weight: 650; font-size: .85rem; letter-spacing: .01em;
  padding: .1rem .6rem; border-radius: 99px; border: 1.5px solid currentColor; }
.good .badge { color: var(--good); } .doubt .badge { color: var(--doubt); }
.bad .badge { color: var(--bad); }
.key { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr));
  gap: 1rem 1.5rem; margin: 1.2rem 0 .2rem; }
.key div { border-top: 1px solid var(--line); padding-top: .6rem; }
.key dt { font-size: .85rem; } .key dd { margin: 0; }
.key b { display: block; font-size: 1.3rem; font-weight: 650; line-height: 1.3;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.key small { font-size: .85rem; display: block; line-height: 1.4; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .93rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); font-size: .88rem; padding-bottom: .4rem; }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 3.4rem); }
th, td { text-align: left; padding: .42rem 1.2rem .42rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { font-weight: 600; color: var(--quiet); font-size: .85rem; white-space: nowrap; }
tbody th { font-weight: 500; white-space: nowrap; }
td.figure, th.figure { text-align: right; white-space: nowrap; }
tr.changed > * { background: var(--mark); }
tr.changed > :first-child { box-shadow: inset 3px 0 0 var(--doubt); padding-left: .7rem; }
tbody th { padding-left: .7rem; } thead th:first-child { padding-left: .7rem; }
td.reason { overflow-wrap: anywhere; }
code, pre { font: .88em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  background: var(--code); border-radius: 5px; }
code { padding: .12em .35em; overflow-wrap: anywhere; }
pre { padding: .8rem 1rem; overflow-x: auto; margin: .6rem 0; }
figure { margin: .8rem 0 0; }
figure img { display: block; width: 100%; max-width: 900px; height: auto; }
figcaption { font-size: .88rem; margin-top: .5rem; max-width: 50rem; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 3px; }
footer { color: var(--quiet); font-size: .88rem; padding-bottom: 2.5rem; }
@media (max-width: 40rem) {
  main, header, footer { padding-left: .7rem; padding-right: .7rem; }
  section { padding: 1rem .9rem; } .verdict .sentence { font-size: 1.08rem; }
  .key { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .8rem; }
  .key b { font-size: 1.08rem; white-space: nowrap; }
  figure .scroll img { width: 720px; max-width: none; }
}
@media print { body { background: #fff; } section { break-inside: avoid; border: 0; padding: 0; } }
""".strip()
