// A button is disabled until what it does is done, also where it is drawn anew meanwhile (render.js).

/** A listener for clicks. */
export const pressed = (act) => async ({ currentTarget: button }) => {
  const focused = document.activeElement === button;
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    await act();
  } finally {
    button.removeAttribute("aria-busy");
    button.disabled = false;
    // A button that is disabled loses it.
    if (focused && document.activeElement === document.body) button.focus();
  }
};
