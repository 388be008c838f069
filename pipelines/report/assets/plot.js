// Draws one panel as SVG, at the width that it has, and tells the values under pointer or keys.
"use strict";

const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "1 2"];
const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function colour(place) { return `var(--c${place % DASHES.length})`; }

// As the tables on a terminal: three decimals below ten, one above.
function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const digits = Math.abs(value) < 10 ? 3 : 1;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) {
    found.push(Number((k * step).toPrecision(12)));
  }
  return found;
}

// Ones, twos and fives; ones alone where those would be many.
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    found.push(...[1, 2, 5].map((each) => Number((each * 10 ** power).toPrecision(3))));
  }
  const inside = found.filter((each) => each >= low && each <= high);
  const ones = inside.filter((each) => Number.isInteger(Math.log10(each)));
  return inside.length > 7 && ones.length > 1 ? ones : inside;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e5) return `${Number((value / 1000).toPrecision(3))}k`;
  return size && size < 1e-4 ? value.toExponential(0) : String(Number(value.toPrecision(3)));
}

function extent(panel) {
  let low = panel.guides ? 0 : Infinity;
  let high = panel.guides ? 1 : -Infinity;
  for (const each of panel.series) {
    for (const values of [each.y, each.low, each.high]) {
      for (const value of values || []) { low = Math.min(low, value); high = Math.max(high, value); }
    }
  }
  if (panel.log) return [low / 1.1, high * 1.1];
  const margin = 0.06 * (high - low || Math.abs(high) || 1);
  return [low - margin, high + margin];
}

function path(xs, ys, x, y) {
  return xs.map((value, k) => `${k ? "L" : "M"}${x(value).toFixed(1)} ${y(ys[k]).toFixed(1)}`).join("");
}

function drawLines(box, panel, small) {
  const width = Math.max(160, box.clientWidth);
  const height = small ? 150 : 270;
  const area = { left: 42, right: width - 8, top: 8, bottom: height - (small ? 20 : 36) };
  const xs = panel.series.flatMap((each) => each.x);
  const steps = panel.x.startsWith("share") ? [0, 1] : [Math.min(...xs), Math.max(...xs)];
  const [low, high] = extent(panel);
  const scale = panel.log ? Math.log : (value) => value;
  const x = (value) => steps[1] === steps[0]
    ? (area.left + area.right) / 2
    : area.left + 4 + ((value - steps[0]) / (steps[1] - steps[0])) * (area.right - area.left - 8);
  const y = (value) => area.bottom - ((scale(value) - scale(low)) / (scale(high) - scale(low))) * (area.bottom - area.top);

  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0, "aria-label": spoken(panel) });
  const marks = panel.log ? logTicks(low, high) : ticks(low, high, small ? 3 : 5);
  for (const value of marks) {
    root.append(svg("line", { class: "grid", x1: area.left, x2: area.right, y1: y(value), y2: y(value) }));
    root.append(svg("text", { x: area.left - 5, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  const whole = panel.x.startsWith("shot");
  let bottom = ticks(steps[0], steps[1], Math.max(2, width / 110)).filter((each) => !whole || Number.isInteger(each));
  // The first shot is the point of the picture: it always has its tick.
  if (whole) bottom = [1, ...bottom.filter((each) => each > 1 && x(each) - x(1) > 24)];
  for (const value of bottom) {
    root.append(svg("text", { x: x(value), y: area.bottom + 14, "text-anchor": "middle" }, short(value)));
  }
  if (!small) {
    root.append(svg("text", { x: (area.left + area.right) / 2, y: height - 3, "text-anchor": "middle" }, panel.x));
  }
  if (panel.guides) {
    for (const [value, name, kind] of [[1, "demonstrator", ""], [0, "random", "random"]]) {
      root.append(svg("line", { class: `guide ${kind}`, x1: area.left, x2: area.right, y1: y(value), y2: y(value) }));
      if (!small) root.append(svg("text", { x: area.right, y: y(value) - 4, "text-anchor": "end" }, name));
    }
  }
  for (const each of panel.series) {
    const paint = colour(each.colour);
    if (each.low) {
      const shape = path(each.x, each.high, x, y) + path([...each.x].reverse(), [...each.low].reverse(), x, y).replace("M", "L") + "Z";
      root.append(svg("path", { d: shape, fill: paint, opacity: 0.16 }));
    }
    const seed = each.weight === "seed";
    root.append(svg("path", {
      d: path(each.x, each.y, x, y), fill: "none", stroke: paint, "stroke-linejoin": "round",
      "stroke-width": seed ? 0.9 : 2, opacity: seed ? 0.4 : 1,
      "stroke-dasharray": DASHES[each.colour % DASHES.length],
    }));
    if (each.x.length === 1) root.append(svg("circle", { cx: x(each.x[0]), cy: y(each.y[0]), r: seed ? 2 : 4, fill: paint }));
  }
  const cursor = svg("line", { class: "cursor", y1: area.top, y2: area.bottom, visibility: "hidden" });
  root.append(cursor);
  const means = panel.series.filter((each) => each.weight === "mean");
  const places = [...new Set(means.flatMap((each) => each.x))].sort((a, b) => a - b);
  listen(root, places.length, (event) => {
    const at = ((event.clientX - root.getBoundingClientRect().left) / root.getBoundingClientRect().width) * width;
    return places.reduce((best, value, k) => (Math.abs(x(value) - at) < Math.abs(x(places[best]) - at) ? k : best), 0);
  }, (k) => {
    cursor.setAttribute("visibility", k === null ? "hidden" : "visible");
    if (k === null) return null;
    const value = places[k];
    cursor.setAttribute("x1", x(value));
    cursor.setAttribute("x2", x(value));
    const lines = means.filter((each) => each.x.includes(value)).map((each) => {
      const place = each.x.indexOf(value);
      const band = each.low ? ` (${number(each.low[place])} to ${number(each.high[place])})` : "";
      return `${each.label}: ${number(each.y[place])}${band}`;
    });
    return { text: [`${panel.x.split(" ")[0]} ${number(value)}`, ...lines].join("\n"), x: x(value) / width };
  });
  box.replaceChildren(root);
}

function drawBars(box, panel, bars) {
  const width = Math.max(200, box.clientWidth);
  const row = 22;
  const left = Math.min(0.42 * width, 8 + 6.3 * Math.max(...bars.map((each) => each.label.length)));
  const right = width - 46;
  const height = 16 + row * bars.length + 34;
  const tops = bars.flatMap((each) => [each.value, each.high ?? each.value]);
  const lows = bars.flatMap((each) => [each.value, each.low ?? each.value]);
  const low = Math.min(0, ...lows);
  const high = Math.max(1.05, ...tops);
  const x = (value) => left + ((value - low) / (high - low)) * (right - left);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0, "aria-label": spoken(panel) });
  const end = 16 + row * bars.length;
  for (const value of ticks(low, high, 4)) {
    root.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: 14, y2: end }));
    root.append(svg("text", { x: x(value), y: end + 14, "text-anchor": "middle" }, short(value)));
  }
  const letters = Math.floor(left / 6.3) - 1;
  bars.forEach((each, k) => {
    const top = 16 + k * row;
    // The end of a long name tells tasks apart: industrial-benchmark-50.
    const name = each.label.length > letters ? `…${each.label.slice(1 - letters)}` : each.label;
    const from = Math.min(x(0), x(each.value));
    const size = Math.max(1, Math.abs(x(each.value) - x(0)));
    root.append(svg("text", { class: "strong", x: left - 6, y: top + 14, "text-anchor": "end" }, name));
    root.append(svg("rect", { x: from, y: top + 3, width: size, height: row - 6, rx: 2, fill: colour(each.colour) }));
    if (each.low !== null) {
      const middle = top + row / 2;
      root.append(svg("path", { class: "whisker", d: `M${x(each.low)} ${middle}H${x(each.high)}M${x(each.low)} ${middle - 3}v6M${x(each.high)} ${middle - 3}v6` }));
    }
    // Inside where the bar is long enough for it, above the start of the bar's room elsewhere.
    const room = size > 8 * each.inside.length + 10;
    root.append(svg("text", { class: room ? "on-bar" : "strong", x: room ? from + 6 : Math.max(x(0), x(each.value)) + 5, y: top + 15 }, each.inside));
    root.append(svg("text", { class: "strong", x: width - 2, y: top + 15, "text-anchor": "end" }, each.value.toFixed(2)));
  });
  root.append(svg("line", { class: "guide", x1: x(1), x2: x(1), y1: 12, y2: end }));
  root.append(svg("text", { x: x(1), y: 9, "text-anchor": "middle" }, "demonstrator"));
  root.append(svg("text", { x: (left + right) / 2, y: height - 3, "text-anchor": "middle" }, panel.x));
  listen(root, bars.length, (event) => {
    const frame = root.getBoundingClientRect();
    const at = ((event.clientY - frame.top) / frame.height) * height;
    return Math.min(bars.length - 1, Math.max(0, Math.floor((at - 16) / row)));
  }, (k) => {
    if (k === null) return null;
    const each = bars[k];
    const band = each.low === null ? "" : ` (${number(each.low)} to ${number(each.high)})`;
    const shot = each.inside ? `\nat shot ${each.inside}` : "";
    return { text: `${each.label}\n${number(each.value)}${band}${shot}`, x: 0.5, y: (16 + (k + 1) * row) / height };
  });
  box.replaceChildren(root);
}

function spoken(panel) {
  const parts = (panel.series || []).filter((each) => each.weight === "mean").map(
    (each) => `${each.label}: from ${number(each.y[0])} to ${number(each.y[each.y.length - 1])}`);
  return `${panel.title}. ${parts.join("; ") || panel.x}. Arrow keys tell single values.`;
}

// Shows the values of one place: the one under the pointer, or the next by arrow keys.
function listen(root, count, find, show) {
  const tip = document.getElementById("tip");
  let at = null;
  const tell = (k) => {
    at = k;
    const told = show(k);
    tip.hidden = !told;
    if (!told) return;
    tip.textContent = told.text;
    const frame = root.getBoundingClientRect();
    const left = frame.left + told.x * frame.width + 10;
    const top = frame.top + (told.y === undefined ? 0.1 : told.y) * frame.height;
    tip.style.left = `${Math.max(4, Math.min(left, window.innerWidth - tip.offsetWidth - 6))}px`;
    tip.style.top = `${Math.max(4, Math.min(top, window.innerHeight - tip.offsetHeight - 6))}px`;
  };
  root.addEventListener("pointermove", (event) => tell(find(event)));
  root.addEventListener("pointerleave", () => tell(null));
  root.addEventListener("blur", () => tell(null));
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") tell(null);
    if (!step) return;
    event.preventDefault();
    tell(at === null ? 0 : Math.min(count - 1, Math.max(0, at + step)));
  });
}
