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

// A cell says what its column is, for where the table is laid out as cards.
function cell(name, field, value, pair) {
  const text = element("span", { "data-field": field }, number(value));
  if (value !== null && value !== undefined) text.setAttribute("data-value", value);
  const node = element("td", { "data-name": name }, text);
  if (pair) node.append(element("span", { class: "interval" }, `[${number(pair[0])}, ${number(pair[1])}]`));
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

// What a table shows beside the task's name and its curve: heading, field, its interval, and the
// field of the means at the foot. A column that no row has anything in is left out.
const COLUMNS = [
  ["first shot", "first", "first_interval", "first"],
  ["last three", "last", "last_interval", "last"],
  ["best", "best", null, "best"],
  ["at shot", "best_shot"],
  [`shots to ${report.goal}`, "shots_to_goal"],
  ["return, first", "return_first"], ["return, last", "return_last"],
  ["random play", "random"], ["demonstrator", "expert"],
  ["success", "success_last"], ["seeds", "seeds"], ["shots", "shots"],
];

function tableOf(table) {
  const rows = table.tasks.filter((row) => matches(row.task));
  const mean = table.mean;
  const columns = COLUMNS.filter(([, field]) => rows.some((row) => row[field] !== null));
  const parts = new Set(table.tasks.map((row) => row.part)).size > 1;
  const body = rows.map((row) => element("tr", { "data-task": row.task },
    element("th", { scope: "row", title: row.task }, row.task),
    element("td", { class: "curve" }, sparkline(row.curve, row.first !== null)),
    ...columns.map(([name, field, pair]) => cell(name, field, row[field], pair && row[pair])),
    ...(parts ? [element("td", { class: "word", "data-name": "part" }, row.part)] : [])));
  const footCell = (kind, [name, field, , aggregate]) => {
    if (aggregate) return cell(name, field, mean[aggregate][kind], field === "best" ? null : mean[aggregate][`${kind}_interval`]);
    if (field === "shots_to_goal" && kind === "mean") return cell(name, field, mean.shots_to_goal);
    return element("td", { class: "none" });
  };
  const feet = mean.tasks ? ["mean", "iqm"].map((kind) => element("tr", { "data-mean": kind },
    element("th", { scope: "row" }, kind === "mean" ? `mean of ${mean.tasks}` : "interquartile mean"),
    element("td", { class: kind === "mean" ? "curve" : "none" }, kind === "mean" ? sparkline(mean.curve, true) : ""),
    ...columns.map((column) => footCell(kind, column)),
    ...(parts ? [element("td", { class: "none" })] : []))) : [];
  const heads = ["task", "by shot", ...columns.map(([name]) => name), ...(parts ? ["part"] : [])];
  return element("div", { "data-domain": table.domain },
    element("h3", {}, `${table.domain}: ${table.model}`),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `scores of ${table.domain}` },
      element("table", {},
        element("thead", {}, element("tr", {}, ...heads.map((name) => element("th", { scope: "col", class: name === "part" || name === "by shot" ? "word" : "" }, name)))),
        element("tbody", {}, ...body), element("tfoot", {}, ...feet))));
}

function legendOf(figure) {
  return element("ul", { class: "legend" }, ...figure.legend.map((each) => {
    const swatch = svg("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
    swatch.append(svg("path", { d: "M1 4H25", ...stroke(each) }));
    return element("li", {}, swatch, each.label);
  }));
}

// Panels are put on the page first and drawn once they have a width.
function figureOf(figure) {
  const panels = figure.panels.filter((each) => inDomain(each.domain) && (each.task === null || matches(each.task)));
  const drawings = [];
  for (const panel of panels) {
    const bars = figure.kind === "bars" ? panel.bars.filter((each) => each.task === null || matches(each.task)) : null;
    if (bars && !bars.length) continue;
    const box = element("div", { class: "drawing" });
    const card = element("div", { class: "panel", ...(panel.task ? { "data-task": panel.task } : {}) },
      element("h4", panel.poor ? { class: "poor" } : {}, panel.title));
    card.append(box);
    drawings.push([card, () => (bars ? drawBars(box, panel, bars) : drawLines(box, panel, figure.small))]);
  }
  if (!drawings.length) return null;
  const scale = view().figures.includes(figure) && figure.id !== "comparison" ? ` Normalised by ${state.reference} scores.` : "";
  const node = element("section", { id: `figure-${figure.id}` },
    element("h2", {}, figure.title),
    element("p", { class: "muted" }, [figure.paper && `The paper's ${figure.paper}.`, figure.text].filter(Boolean).join(" ") + scale),
    ...(figure.legend.length ? [legendOf(figure)] : []),
    element("div", { class: figure.small ? "panels small" : "panels" }, ...drawings.map(([card]) => card)));
  return { node, title: figure.title, draw: () => drawings.forEach(([, draw]) => draw()) };
}

let shown = [];

function render() {
  byId("tip").hidden = true;
  const tables = view().tables.filter((each) => inDomain(each.domain) && each.tasks.some((row) => matches(row.task)));
  byId("tables-body").replaceChildren(...tables.map(tableOf));
  shown = [...view().figures, ...report.figures].map(figureOf).filter(Boolean);
  byId("figures").replaceChildren(...shown.map((each) => each.node));
  byId("contents").querySelector("ul").replaceChildren(
    ...[...(report.film ? [["film", "First beside last"]] : []), ...shown.map((each) => [each.node.id, each.title]),
      ["tables", "Scores"], ["provenance", "Where this comes from"]]
      .map(([id, title]) => element("li", {}, element("a", { href: `#${id}` }, title))));
  showHeadline();
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

// Who played what, and from where to where it got: over all training tasks, whatever is filtered.
function showHeadline() {
  const two = (value) => (value === null ? "–" : value.toFixed(2));
  const lines = view().headline;
  const [first] = lines;
  byId("headline").textContent = first.first === null ? report.rollouts.join(", ")
    : `${lines.length > 1 ? `${first.model}: ` : ""}${two(first.first)} in the first shot, ${two(first.last)} over the last three`;
  byId("models").replaceChildren(...lines.map((line) => {
    const pairs = [
      ["model", [line.model, line.checkpoint].filter(Boolean).join(", ")],
      ["preset", [line.preset, line.parameters && `${number(line.parameters)} parameters`].filter(Boolean).join(", ")],
      ["data", line.data.join(", ")], ["played", line.date],
      ["tasks", line.first === null ? "none with scores" : `${line.tasks}${line.part === "training" ? " training" : ""}, ${line.seeds} seed${line.seeds === 1 ? "" : "s"} each`],
      ["first shot to last three", line.first === null ? "" : `${two(line.first)} to ${two(line.last)} (${line.reference} scores)`],
    ].filter(([, text]) => text);
    return element("dl", { class: "facts" }, ...pairs.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));
  }));
}

function showFilm(film) {
  const source = `data:${film.media};base64,${film.data}`;
  const picture = film.media.startsWith("video")
    ? element("video", { src: source, controls: "", loop: "", muted: "", playsinline: "", "aria-label": film.caption })
    : element("img", { src: source, alt: film.caption });
  byId("film").append(element("figure", {}, picture, element("figcaption", {}, `${film.caption}. One stream, played again for the film; left the first episode, from an empty context, right the last.`)));
  byId("film").hidden = false;
}

byId("about").textContent = `${report.rollouts.join(", ")}: ${report.tasks.length} tasks of ${report.domains.join(", ")}. 0 is random play and 1 the demonstrator. Nothing is learned in the weights here: from shot to shot the model sees only its own past episodes.`;
if (report.film) showFilm(report.film);
// A list of links is a column of its own where there is room, and folded away where there is none.
byId("contents").open = window.matchMedia("(min-width: 75rem)").matches;
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
