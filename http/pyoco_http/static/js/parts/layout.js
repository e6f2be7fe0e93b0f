// Where the nodes of a flow stand: layers from left to right, groups around what is inside of them.

const TASK = { width: 156, height: 46 };
const GAP = { x: 46, y: 16 };
const PAD = 14;
const LABEL = 18;

/**
 * Lay out {nodes, edges} of GET /runs/{id}/graph.
 * Returns {width, height, nodes: [{…node, x, y, width, height}], labels: [{text, x, y}], edges: [{…edge, from, to}]}
 * with groups before what is inside of them.
 */
export function layout(graph) {
  const inside = Map.groupBy(graph.nodes, (node) => node.parent ?? "");
  const placed = new Map();
  const labels = [];
  const box = container(inside.get("") ?? [], graph.edges, inside);
  settle(box, 0, 0, placed, labels);
  const nodes = graph.nodes.filter((node) => placed.has(node.id)).map((node) => ({ ...node, ...placed.get(node.id) }));
  const edges = graph.edges
    .filter((edge) => placed.has(edge.source) && placed.has(edge.target))
    .map((edge) => ({ ...edge, from: placed.get(edge.source), to: placed.get(edge.target) }));
  return { width: box.width, height: box.height, nodes, labels, edges };
}

// A container is a size and its items with places inside; an item may hold containers of its own.
function container(nodes, allEdges, inside) {
  const ids = new Set(nodes.map((node) => node.id));
  const edges = allEdges.filter((edge) => ids.has(edge.source) && ids.has(edge.target));
  const items = new Map(nodes.map((node) => [node.id, measure(node, allEdges, inside)]));
  const layers = order(rank(nodes, edges), edges);
  let x = 0;
  let height = 0;
  const heights = layers.map((layer) => layer.reduce((sum, id) => sum + items.get(id).height + GAP.y, -GAP.y));
  height = Math.max(TASK.height, ...heights);
  layers.forEach((layer, index) => {
    const width = Math.max(...layer.map((id) => items.get(id).width));
    let y = (height - heights[index]) / 2;
    for (const id of layer) {
      const item = items.get(id);
      item.x = x + (width - item.width) / 2;
      item.y = y;
      y += item.height + GAP.y;
    }
    x += width + GAP.x;
  });
  return { width: Math.max(x - GAP.x, TASK.width), height, items: [...items.values()] };
}

function measure(node, edges, inside) {
  if (node.kind === "task") return { id: node.id, ...TASK, parts: [] };
  const branches = Map.groupBy(inside.get(node.id) ?? [], (child) => child.branch ?? "");
  const parts = [];
  let y = LABEL + PAD;
  let width = TASK.width;
  for (const [name, nodes] of branches) {
    const labelled = branches.size > 1 || node.kind === "switch";
    const box = container(nodes, edges, inside);
    if (labelled) y += LABEL;
    parts.push({ box, x: PAD, y, label: labelled ? name : null });
    y += box.height + PAD;
    width = Math.max(width, box.width);
  }
  return { id: node.id, width: width + 2 * PAD, height: Math.max(y, TASK.height), parts };
}

// The layer of a node is the longest way to it.
function rank(nodes, edges) {
  const incoming = Map.groupBy(edges, (edge) => edge.target);
  const ranks = new Map();
  const visit = (id, path) => {
    if (ranks.has(id)) return ranks.get(id);
    if (path.has(id)) return 0; // a cycle cannot come from the gateway, but must not hang the page
    path.add(id);
    const before = (incoming.get(id) ?? []).map((edge) => visit(edge.source, path) + 1);
    path.delete(id);
    const value = Math.max(0, ...before);
    ranks.set(id, value);
    return value;
  };
  const layers = [];
  for (const node of nodes) (layers[visit(node.id, new Set())] ??= []).push(node.id);
  return layers.filter(Boolean);
}

// Fewer crossings: each layer in the order of the middle of its neighbours, there and back.
function order(layers, edges) {
  const sources = Map.groupBy(edges, (edge) => edge.target);
  const targets = Map.groupBy(edges, (edge) => edge.source);
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
  return layers;
}

function settle(box, left, top, placed, labels) {
  for (const item of box.items) {
    const x = left + item.x;
    const y = top + item.y;
    placed.set(item.id, { x, y, width: item.width, height: item.height });
    for (const part of item.parts) {
      if (part.label !== null) labels.push({ text: part.label, x: x + part.x, y: y + part.y - 6 });
      settle(part.box, x + part.x, y + part.y, placed, labels);
    }
  }
}
