// The pictures of the READMEs: the opening view in both languages, as the built command writes it.
// usage: node tests/page/pictures.js FOLDER
import { join } from "node:path";
import { CHINESE, ENGLISH, makePage, open, start } from "./helper.js";

const folder = process.argv[2];
const browser = await start();
for (const [language, text] of [
  ["en", ENGLISH],
  ["zh", CHINESE],
]) {
  const { page, close } = await open(browser, makePage("look", text), {
    language,
    width: 1200,
    height: 800,
    deviceScaleFactor: 1.5,
  });
  await page.screenshot({ path: join(folder, `page-${language}.png`) });
  await close();
}
await browser.close();
