// Dragging with mouse, pen or finger.

/** `begins(event)`: whether a drag begins here; then `move(event)`, at once and on every movement, and `done(event)`. */
export function dragged(element, begins, move, done = () => {}) {
  let pointer = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !begins(event)) return;
    pointer = event.pointerId;
    element.setPointerCapture(pointer);
    move(event);
  });
  element.addEventListener("pointermove", (event) => { if (event.pointerId === pointer) move(event); });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, (event) => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      done(event);
    });
  }
}
