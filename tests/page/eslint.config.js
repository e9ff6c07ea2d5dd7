import js from "@eslint/js";
import globals from "globals";

// Markup from text is how a sentence would become a script: the page has no use for it.
const markup = ["innerHTML", "outerHTML", "insertAdjacentHTML", "write"].map((property) => ({
  property,
  message: "Set text as text (dom.js).",
}));

export default [
  js.configs.recommended,
  {
    files: ["**/*.js"],
    rules: {
      "no-restricted-properties": ["error", ...markup],
      eqeqeq: "error",
      "prefer-const": "error",
      "no-var": "error",
    },
  },
  {
    files: ["**/page/*.js"],
    ignores: ["**/tests/page/*.js", "**/bench/page/*.js"],
    languageOptions: { globals: globals.browser },
  },
  {
    files: ["**/tests/page/*.js", "**/bench/page/*.js"],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
  },
];
