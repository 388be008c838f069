// The page: reads the report that stands beside it, and shows what filter and reference choose.
"use strict";

const report = JSON.parse(document.getElementById("report").textContent);
const state = { words: [], domain: "", reference: report.reference };
const byId = (id) => document.getElementById(id);

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const view = () => report.views[state.reference];
const matches = (task) => !state.words.length || state.words.some((word) => task.toLowerCase().includes(word));
const inDomain = (domain) => !state.domain || domain.split(", ").includes(state.domain);

function interval(pair) {
  return pair ? element("span", { class: "interval" }, ` [${number(pair[0])}, ${number(pair[1])}]`) : "";
}

function cell(value, pair, field) {
  const node = element("td", field ? { "data-field": field } : {}, number(value));
  if (value !== null && value !== undefined) node.setAttribute("data-value", value);
  node.append(interval(pair));
  return node;
}

// The height of normalised curves runs from random to demonstrator, so that rows compare.
function sparkline(curve, normalised) {
  const root = svg("svg", { viewBox: "0 0 110 20", role: "img", "aria-label": `from ${number(curve[0])} to ${number(curve[curve.length - 1])}` });
  const low = normalised ? 0 : Math.min(...curve);
  const high = normalised ? 1 : Math.max(...curve);
  const x = (k) => 3 + (curve.length > 1 ? (104 * k) / (curve.length - 1) : 52);
  const y = (value) => 17 - 14 * Math.min(1.15, Math.max(-0.15, high > low ? (value - low) / (high - low) : 0.5));
  root.append(svg("path", { d: path([...curve.keys()], curve, x, y), fill: "none", stroke: colour(0), "stroke-width": 1.5 }));
  root.append(svg("circle", { cx: x(curve.length - 1), cy: y(curve[curve.length - 1]), r: 2.2, fill: colour(0) }));
  return root;
}

const COLUMNS = ["task", "curve", "part", "seeds", "shots", "first", "best", "at shot", "last three",
  `shots to ${report.goal}`, "return first", "return last", "random", "expert", "success"];

function tableOf(table) {
  const rows = table.tasks.filter((row) => matches(row.task));
  const mean = table.mean;
  const body = rows.map((row) => element("tr", { "data-task": row.task },
    element("th", { scope: "row", title: row.task }, row.task),
    element("td", {}, sparkline(row.curve, row.first !== null)),
    element("td", { class: "word" }, row.part),
    cell(row.seeds, null, "seeds"), cell(row.shots, null, "shots"),
    cell(row.first, row.first_interval, "first"),
    cell(row.best, null, "best"), cell(row.best_shot, null, "best_shot"),
    cell(row.last, row.last_interval, "last"),
    cell(row.shots_to_goal, null, "shots_to_goal"),
    cell(row.return_first, null, "return_first"), cell(row.return_last, null, "return_last"),
    cell(row.random, null, "random"), cell(row.expert, null, "expert"),
    cell(row.success_last, null, "success_last")));
  const feet = mean.tasks ? ["mean", "iqm"].map((kind) => element("tr", { "data-mean": kind },
    element("th", { scope: "row" }, kind === "mean" ? `mean of ${mean.tasks}` : "interquartile mean"),
    element("td", {}, kind === "mean" ? sparkline(mean.curve, true) : ""),
    element("td", {}), element("td", {}), element("td", {}),
    cell(mean.first[kind], mean.first[`${kind}_interval`], "first"),
    cell(mean.best[kind], null, "best"), element("td", {}),
    cell(mean.last[kind], mean.last[`${kind}_interval`], "last"),
    kind === "mean" ? cell(mean.shots_to_goal, null, "shots_to_goal") : element("td", {}),
    ...Array.from({ length: 5 }, () => element("td", {})))) : [];
  return element("div", { "data-domain": table.domain },
    element("h3", {}, `${table.domain}: ${table.model}`),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `scores of ${table.domain}` },
      element("table", {},
        element("thead", {}, element("tr", {}, ...COLUMNS.map((name) => element("th", { scope: "col", class: name === "part" || name === "curve" ? "word" : "" }, name)))),
        element("tbody", {}, ...body), element("tfoot", {}, ...feet))));
}

function legendOf(panel) {
  const means = panel.series.filter((each) => each.weight === "mean");
  return element("ul", { class: "legend" }, ...means.map((each) => {
    const swatch = svg("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
    swatch.append(svg("path", { d: "M1 4H25", stroke: colour(each.colour), "stroke-width": 2.5, "stroke-dasharray": DASHES[each.colour % DASHES.length] }));
    return element("li", {}, swatch, each.label);
  }));
}

// Panels are put on the page first and drawn once they have a width.
function figureOf(figure) {
  const panels = figure.panels.filter((each) => inDomain(each.domain) && (each.task === null || matches(each.task)));
  const small = figure.kind === "lines" && figure.panels.some((each) => each.task !== null);
  const drawings = [];
  for (const panel of panels) {
    const bars = figure.kind === "bars" ? panel.bars.filter((each) => each.task === null || matches(each.task)) : null;
    if (bars && !bars.length) continue;
    const box = element("div", { class: "drawing" });
    const card = element("div", { class: "panel", ...(panel.task ? { "data-task": panel.task } : {}) },
      element("h4", {}, panel.title));
    if (!bars && (panel.series.filter((each) => each.weight === "mean").length > 1 || !small)) card.append(legendOf(panel));
    card.append(box);
    drawings.push([card, () => (bars ? drawBars(box, panel, bars) : drawLines(box, panel, small))]);
  }
  if (!drawings.length) return null;
  const labels = figure.kind === "lines" ? [...new Set(panels.map((each) => each.y))].join("; ") : "";
  const node = element("section", { id: `figure-${figure.id}` },
    element("h2", {}, figure.title),
    element("p", { class: "muted" }, [figure.paper && `The paper's ${figure.paper}.`, figure.text, labels && `Upwards: ${labels}.`].filter(Boolean).join(" ")),
    element("div", { class: small ? "panels small" : "panels" }, ...drawings.map(([card]) => card)));
  return { node, title: figure.paper ? `${figure.title} (${figure.paper})` : figure.title, draw: () => drawings.forEach(([, draw]) => draw()) };
}

let shown = [];

function render() {
  byId("tip").hidden = true;
  const tables = view().tables.filter((each) => inDomain(each.domain) && each.tasks.some((row) => matches(row.task)));
  byId("tables-body").replaceChildren(...tables.map(tableOf));
  shown = [...view().figures, ...report.figures].map(figureOf).filter(Boolean);
  byId("figures").replaceChildren(...shown.map((each) => each.node));
  byId("contents").replaceChildren(element("ul", {},
    ...[...shown.map((each) => [each.node.id, each.title]), ["tables", "Scores"], ["provenance", "Where this comes from"]]
      .map(([id, title]) => element("li", {}, element("a", { href: `#${id}` }, title)))));
  const names = new Set(tables.flatMap((each) => each.tasks).map((row) => row.task).filter(matches));
  byId("shown").textContent = `${names.size} of ${report.tasks.length} tasks`;
  document.body.dataset.reference = state.reference;
  shown.forEach((each) => each.draw());
}

function provenanceOf(found) {
  const pairs = (record) => Object.entries(record).map(([key, value]) => `${key} ${value}`).join(", ") || "none";
  const entries = found.artifacts.map((each) => {
    const list = element("dl", {});
    const rows = [
      ["digest", element("code", {}, each.digest)], ["made", each.created_at],
      ["code", each.git_revision ? element("code", {}, each.git_revision) : "not a checkout"],
      ["versions", pairs(each.packages)], ["seeds", pairs(each.seeds)],
      ["from", each.parents.map((parent) => `${parent.reference} (${parent.digest})`).join(", ") || "nothing else"],
      ["command", element("code", {}, each.command)],
      ["configuration", element("pre", { tabindex: 0 }, JSON.stringify(each.config, null, 2))],
    ];
    for (const [name, value] of rows) list.append(element("dt", {}, name), element("dd", {}, value));
    return element("details", { "data-artifact": each.reference }, element("summary", {},
      `${each.reference} `, element("code", { class: "muted" }, each.digest.slice(0, 16))), list);
  });
  const missing = found.missing.length ? [element("p", {}, `Not in the workspace any more: ${found.missing.join(", ")}.`)] : [];
  return [
    element("p", {}, `Made by vintix ${found.vintix} with `, element("code", {}, found.command),
      ". A command below names parents and tasks; what else it was run with is in the resolved configuration under it."),
    ...entries, ...missing];
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  select.value = chosen;
}

byId("about").textContent = `${report.rollouts.join(", ")}: ${report.tasks.length} tasks of ${report.domains.join(", ")}. Nothing is learned in the weights here: from shot to shot the model sees only its own past episodes.`;
byId("tables-note").textContent = "Normalised: 0 is random play and 1 the demonstrator, by the chosen scores. Brackets are 95 % bootstrap intervals over seeds, stratified by task in the last rows. Last three: the mean of the last three shots. Means are over the training tasks (over all where there are none), whatever the filter shows.";
if (report.absent.length) {
  byId("tables-note").after(element("p", { id: "absent" },
    `Not played, since the model has no group for them: ${report.absent.map((each) => each.name).join(", ")}. The paper scores such tasks 0, as random play; they are in no mean here.`));
}
options(byId("domain"), [["", "all"], ...report.domains.map((each) => [each, each])], "");
options(byId("reference"), Object.keys(report.views).map((each) => [each, each]), state.reference);
byId("provenance-body").replaceChildren(...provenanceOf(report.provenance));
byId("filter").addEventListener("input", (event) => {
  state.words = event.target.value.toLowerCase().split(",").map((word) => word.trim()).filter(Boolean);
  render();
});
byId("domain").addEventListener("change", (event) => { state.domain = event.target.value; render(); });
byId("reference").addEventListener("change", (event) => { state.reference = event.target.value; render(); });
byId("controls").addEventListener("submit", (event) => event.preventDefault());
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  requestAnimationFrame(() => shown.forEach((each) => each.draw()));
});
render();
