// Where the nodes of a flow stand: layers one after the other, groups around what is inside of them, and the way of
// each edge between them. An edge crosses a layer only where it has a place of its own there, never behind a node.

const TASK = { width: 156, height: 46 };
const GAP = { along: 46, beside: 16, packed: 10, chained: 26 };
const MARGIN = 12;
const PAD = 14;
const LABEL = 18;
const PACKED = 5; // so many tasks between the same neighbours stand in columns instead of in one
const FOLDED = 60; // more of them are one node, until they are wanted
const ARROW = 9; // px straight before a node
const VIA = 10; // the room of an edge that passes a layer
const MOST_VIAS = 4000;
const LARGE = 400; // nodes
const COLUMNS = [3, 2, 4, 6, 9];

/**
 * Lay {nodes, edges} of GET /runs/{id}/graph out so that they are drawn as large as may be in a room {width, height},
 * from left to right or downwards. `toggled`: the ids of groups that the user folded or unfolded.
 */
export function fitting(graph, toggled, room) {
  const large = graph.nodes.length > LARGE;
  let best = null;
  for (const down of [false, true]) {
    for (const columns of large ? [6] : COLUMNS) {
      const picture = layout(graph, { down, columns, toggled });
      const scale = Math.min(1, room.width / picture.width, room.height / picture.height);
      // Left to right is what one expects, unless the other is clearly easier to read.
      const worth = down ? scale - 0.15 : scale;
      if (best === null || worth > best.worth + 0.01) best = { worth, picture };
      if (!picture.packs) break;
    }
  }
  return best.picture;
}

/**
 * Returns {width, height, down, packs, nodes, labels: [{text, x, y}], edges: [{kind, points}]}. A node has x, y, width,
 * height; one with things inside `holds` the names of its tasks and is `folded` or not. The points of an edge are its
 * beginning, pairs of curves' ends, and its end.
 */
export function layout(graph, { down, columns, toggled }) {
  const inside = Map.groupBy(graph.nodes, (node) => node.parent ?? "");
  const found = { nodes: [], labels: [], edges: [], packs: 0 };
  const context = { edges: graph.edges, inside, down, columns, toggled, found };
  const box = container(inside.get("") ?? [], context);
  settle(box, MARGIN, MARGIN, found);
  return { width: box.width + 2 * MARGIN, height: box.height + 2 * MARGIN, down, ...found };
}

// A container is a size, its items with places inside, and the ways of its edges; an item may hold containers.
function container(nodes, context) {
  const { down } = context;
  const { parts, edges } = bundled(nodes, context);
  const items = new Map(parts.map((node) => [node.id, measure(node, context)]));
  const { ranks, layers } = ranked(parts, edges);
  const ways = edges.map((edge) => ({ ...edge, way: [edge.source, edge.target] }));
  if (edges.length * layers.length < MOST_VIAS) for (const each of ways) lead(each, ranks, layers, items);
  order(layers, ways);
  const along = down ? "height" : "width";
  const across = down ? "width" : "height";
  const sizes = layers.map((layer) => layer.reduce((sum, id) => sum + items.get(id)[across] + GAP.beside, -GAP.beside));
  const most = Math.max(TASK[across], ...sizes);
  const spans = [];
  let start = 0;
  layers.forEach((layer, index) => {
    const length = Math.max(0, ...layer.map((id) => items.get(id)[along]));
    let beside = (most - sizes[index]) / 2;
    for (const id of layer) {
      const item = items.get(id);
      const main = start + (length - item[along]) / 2;
      Object.assign(item, down ? { x: beside, y: main } : { x: main, y: beside });
      beside += item[across] + GAP.beside;
    }
    spans.push({ start, end: start + length });
    start += length + GAP.along;
  });
  const total = Math.max(start - GAP.along, TASK[along]);
  return {
    ...(down ? { width: most, height: total } : { width: total, height: most }),
    items: [...items.values()].filter((item) => item.node),
    edges: ways.map(({ kind, way }) => ({ kind, points: route(way.map((id) => items.get(id)), ranks.get(way[0]), spans, down) })),
  };
}

// Tasks between the same neighbours, when they are many, are one part; so are those of a long chain.
function bundled(nodes, { edges: all, found }) {
  const ids = new Set(nodes.map((node) => node.id));
  const edges = all.filter((edge) => ids.has(edge.source) && ids.has(edge.target));
  const before = Map.groupBy(edges, (edge) => edge.target);
  const behind = Map.groupBy(edges, (edge) => edge.source);
  const neighbours = (node) => JSON.stringify([
    (before.get(node.id) ?? []).map((edge) => [edge.source, edge.kind]).sort(),
    (behind.get(node.id) ?? []).map((edge) => [edge.target, edge.kind]).sort(),
  ]);
  const packOf = new Map();
  const parts = [];
  const bundle = (kind, members) => {
    const pack = { id: `${kind} ${members[0].id}`, kind, members };
    for (const member of members) packOf.set(member.id, pack.id);
    parts.push(pack);
    found.packs += 1;
  };
  for (const members of chains(nodes, edges, before, behind)) bundle("chain", members);
  const alike = Map.groupBy(nodes.filter((node) => !packOf.has(node.id)), (node) => (node.kind === "task" ? neighbours(node) : node.id));
  for (const members of alike.values()) {
    if (members.length < PACKED) {
      parts.push(...members);
      continue;
    }
    bundle("pack", members);
  }
  const merged = new Map();
  for (const edge of edges) {
    const source = packOf.get(edge.source) ?? edge.source;
    const target = packOf.get(edge.target) ?? edge.target;
    if (source !== target) merged.set(`${source}\n${target}\n${edge.kind}`, { source, target, kind: edge.kind });
  }
  return { parts, edges: [...merged.values()] };
}

// Long rows of tasks, each of which leads to the next one only, and that waits for it only.
function chains(nodes, edges, before, behind) {
  const tasks = new Map(nodes.filter((node) => node.kind === "task").map((node) => [node.id, node]));
  const next = new Map();
  for (const { source, target, kind } of edges) {
    const alone = kind !== "any" && behind.get(source).length === 1 && before.get(target).length === 1;
    if (alone && tasks.has(source) && tasks.has(target)) next.set(source, tasks.get(target));
  }
  const later = new Set(next.values());
  const found = [];
  for (const first of tasks.values()) {
    if (later.has(first)) continue;
    const members = [first];
    while (next.has(members.at(-1).id)) members.push(next.get(members.at(-1).id));
    if (members.length > FOLDED) found.push(members);
  }
  return found;
}

function measure(node, context) {
  if (node.kind === "task") return { node, ...TASK, parts: [] };
  const holds = node.members?.map((member) => member.name) ?? held(node, context.inside);
  const folded = context.toggled.has(node.id) !== holds.length > FOLDED;
  const whole = { ...node, holds, folded };
  if (folded) return { node: whole, ...TASK, parts: [] };
  return node.members ? pack(whole, context) : group(whole, context);
}

const held = (node, inside) => (inside.get(node.id) ?? []).flatMap((child) => (child.kind === "task" ? [child.name] : held(child, inside)));

// Beside each other in rows; a chain goes there and back, and so never behind a task.
function pack(node, { columns }) {
  const across = Math.min(columns, node.members.length);
  const chain = node.kind === "chain";
  const gap = chain ? GAP.chained : GAP.packed;
  const step = { x: TASK.width + gap, y: TASK.height + gap };
  const items = node.members.map((member, index) => {
    const [row, place] = [Math.floor(index / across), index % across];
    const column = chain && row % 2 ? across - 1 - place : place;
    return { node: member, ...TASK, parts: [], x: column * step.x, y: row * step.y };
  });
  const width = across * step.x - gap;
  const height = Math.ceil(items.length / across) * step.y - gap;
  const edges = chain ? items.slice(1).map((item, index) => ({ kind: "all", points: hop(items[index], item) })) : [];
  const box = { width, height, items, edges };
  return { node, width: width + 2 * PAD, height: height + LABEL + 2 * PAD, parts: [{ box, x: PAD, y: LABEL + PAD, label: null }] };
}

// From a task to the one beside or below it.
function hop(from, to) {
  if (from.y !== to.y) {
    const x = from.x + TASK.width / 2;
    return [{ x, y: from.y + TASK.height }, { x, y: to.y - 1 }];
  }
  const y = from.y + TASK.height / 2;
  return from.x < to.x ? [{ x: from.x + TASK.width, y }, { x: to.x - 1, y }] : [{ x: from.x, y }, { x: to.x + TASK.width + 1, y }];
}

function group(node, context) {
  const branches = Map.groupBy(context.inside.get(node.id) ?? [], (child) => child.branch ?? "");
  const labelled = branches.size > 1 || node.kind === "switch";
  const parts = [];
  const top = LABEL + PAD + (labelled ? LABEL : 0);
  let [x, y, width, height] = [PAD, top, TASK.width, 0];
  for (const [name, nodes] of branches) {
    const box = container(nodes, context);
    parts.push({ box, x, y, label: labelled ? name : null });
    if (context.down) {
      x += box.width + PAD;
      [width, height] = [Math.max(TASK.width, x - 2 * PAD), Math.max(height, y + box.height)];
    } else {
      y += box.height + PAD + (labelled ? LABEL : 0);
      [width, height] = [Math.max(width, box.width), y - PAD - (labelled ? LABEL : 0)];
    }
  }
  return { node, width: width + 2 * PAD, height: Math.max(height, TASK.height) + PAD, parts };
}

// The layer of a node is the longest way to it.
function ranked(nodes, edges) {
  const incoming = Map.groupBy(edges, (edge) => edge.target);
  const ranks = new Map();
  const visit = (id, path) => {
    if (ranks.has(id)) return ranks.get(id);
    if (path.has(id)) return 0; // a cycle cannot come from the gateway, but must not hang the page
    path.add(id);
    const before = (incoming.get(id) ?? []).map((edge) => visit(edge.source, path) + 1);
    path.delete(id);
    const value = before.reduce((most, each) => Math.max(most, each), 0);
    ranks.set(id, value);
    return value;
  };
  const layers = [];
  for (const node of nodes) (layers[visit(node.id, new Set())] ??= []).push(node.id);
  return { ranks, layers: Array.from(layers, (layer) => layer ?? []) };
}

// Give an edge a place in each layer that it passes; edges of one node share it.
function lead(edge, ranks, layers, items) {
  const between = [];
  for (let rank = ranks.get(edge.source) + 1; rank < ranks.get(edge.target); rank += 1) {
    const id = `via ${edge.source} ${rank}`;
    if (!items.has(id)) {
      items.set(id, { width: VIA, height: VIA });
      layers[rank].push(id);
    }
    between.push(id);
  }
  edge.way = [edge.source, ...between, edge.target];
}

// Fewer crossings: each layer in the order of the middle of its neighbours, there and back.
function order(layers, ways) {
  const steps = ways.flatMap(({ way }) => way.slice(1).map((target, index) => ({ source: way[index], target })));
  const sources = Map.groupBy(steps, (edge) => edge.target);
  const targets = Map.groupBy(steps, (edge) => edge.source);
  const sort = (layer, other, neighbours) => {
    const at = new Map(other.map((id, index) => [id, index]));
    const middle = (id, index) => {
      const places = neighbours(id).map((each) => at.get(each)).filter((each) => each !== undefined);
      return places.length ? places.reduce((sum, each) => sum + each, 0) / places.length : index;
    };
    const keys = new Map(layer.map((id, index) => [id, middle(id, index)]));
    layer.sort((one, two) => keys.get(one) - keys.get(two));
  };
  for (let round = 0; round < 2; round += 1) {
    for (let index = 1; index < layers.length; index += 1) {
      sort(layers[index], layers[index - 1], (id) => (sources.get(id) ?? []).map((edge) => edge.source));
    }
    for (let index = layers.length - 2; index >= 0; index -= 1) {
      sort(layers[index], layers[index + 1], (id) => (targets.get(id) ?? []).map((edge) => edge.target));
    }
  }
}

// Straight within a layer, curved between two of them.
function route(items, rank, spans, down) {
  const point = (main, beside) => (down ? { x: beside, y: main } : { x: main, y: beside });
  const side = (item) => (down ? item.x + item.width / 2 : item.y + item.height / 2);
  const near = (item) => (down ? item.y : item.x);
  const far = (item) => (down ? item.y + item.height : item.x + item.width);
  const points = [point(far(items[0]), side(items[0]))];
  for (let index = 1; index < items.length; index += 1) {
    points.push(point(spans[rank + index - 1].end, side(items[index - 1])), point(spans[rank + index].start - ARROW, side(items[index])));
  }
  const last = items.at(-1);
  points.push(point(near(last) - 1, side(last)));
  return points;
}

function settle(box, left, top, found) {
  const moved = ({ x, y }) => ({ x: left + x, y: top + y });
  for (const { kind, points } of box.edges) found.edges.push({ kind, points: points.map(moved) });
  for (const item of box.items) {
    const place = moved(item);
    found.nodes.push({ ...item.node, ...place, width: item.width, height: item.height });
    for (const part of item.parts) {
      if (part.label !== null) found.labels.push({ text: part.label, x: place.x + part.x, y: place.y + part.y - 6 });
      settle(part.box, place.x + part.x, place.y + part.y, found);
    }
  }
}
