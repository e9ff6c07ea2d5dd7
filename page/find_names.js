// What those that ask, and what they read, are called.

/** @typedef {import("qkv/find.js").State} State */
/** @typedef {import("qkv/find_data.js").Asker} Asker */
/** @typedef {import("qkv/find_data.js").Stream} Stream */

/** The stream of patches that an asker read. @param {Asker} asker @returns {Stream} */
export const patchStream = (asker) => (asker.kind === "patch" ? "encoder" : "patches");

/** @param {State} state @param {Stream} stream @param {number} row */
export function rowName(state, stream, row) {
  const { find, say } = state;
  if (stream === "words") return find.prompt.pieces[row].text;
  if (stream === "encoder" || stream === "patches")
    return say.patch(Math.floor(row / find.side), row % find.side);
  if (row === 0) return say.presenceName;
  const object = find.objects.findIndex((it) => it.query === row - 1);
  return object >= 0 ? say.object(object + 1) : say.query(row);
}

/** @param {State} state */
export const askerName = (state) =>
  rowName(state, state.asker.kind === "patch" ? "encoder" : "queries", state.asker.row);

/** The patch that asks, or −1. @param {State} state */
export const itself = (state) => (state.asker.kind === "patch" ? state.asker.row : -1);
