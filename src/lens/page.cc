#include "lens/page.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "lens/page_files.h"

namespace qkv::lens {
namespace {

std::string_view file(std::string_view name) {
  for (const PageFile& candidate : page_files()) {
    if (candidate.name == name) return candidate.text;
  }
  throw std::logic_error("page/" + std::string(name) + " is not in the library");
}

void replace(std::string& text, std::string_view mark, const std::string& by) {
  const std::size_t at = text.find(mark);
  if (at == std::string::npos) throw std::logic_error("page.html lacks " + std::string(mark));
  text.replace(at, mark.size(), by);
}

// Text for the inside of a <script>: neither "</script>" nor "<!--" can occur in JSON whose "<" are written as \u003c.
std::string escape_for_script(std::string_view json) {
  std::string escaped;
  escaped.reserve(json.size());
  for (const char c : json) {
    if (c == '<') {
      escaped += "\\u003c";
    } else if (c == '>') {
      escaped += "\\u003e";
    } else if (c == '&') {
      escaped += "\\u0026";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// A module as a data URL (RFC 2397), inside a JSON string: percent signs, white space and what ends a URL or a string are
// percent-encoded, letters stay readable.
std::string data_url(std::string_view text) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  static constexpr std::string_view kPlain = "-_.~!*'();:@=+$,/?[] {}|^`";
  std::string url = "data:text/javascript;charset=utf-8,";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool letter = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter || kPlain.find(c) != std::string_view::npos) {
      url += c;
    } else {
      url += '%';
      url += kHex[byte >> 4];
      url += kHex[byte & 15];
    }
  }
  return url;
}

enum class Pages : std::uint8_t { sentences, pictures };

// Of other pages' modules a page has none: watch*.js are for those that qkv.watch of the Python package writes.
bool belongs(std::string_view module, Pages pages) {
  if (!module.ends_with(".js") || module.starts_with("watch")) return false;
  return pages == Pages::pictures || !module.starts_with("find");
}

// The modules import each other as "qkv/name.js"; the map says where these are: in the page itself.
std::string import_map(Pages pages) {
  std::string map;
  for (const PageFile& module : page_files()) {
    if (!belongs(module.name, pages)) continue;
    map += (map.empty() ? "" : ",\n") + ("\"qkv/" + std::string(module.name)) + "\":\"" +
           data_url(module.text) + "\"";
  }
  return "{\"imports\":{" + map + "}}";
}

// `runs` is JSON.
std::string fill(const std::string& runs, Pages pages) {
  std::string page(file("page.html"));
  replace(page, "/*style.css*/", std::string(file("style.css")));
  replace(page, "/*import map*/", import_map(pages));
  replace(page, "<!--payload-->\n", "");  // what pages of qkv.watch have more (python/qkv/page.py)
  replace(page, "/*runs*/", runs);
  return page;
}

}  // namespace

std::string run_page(std::span<const std::string> runs) {
  std::string list;
  for (const std::string& run : runs) list += (list.empty() ? "" : ",") + escape_for_script(run);
  return fill("[" + list + "]", Pages::sentences);
}

std::string find_page(const std::string& data) {
  return fill(escape_for_script(data), Pages::pictures);
}

std::string live_page() { return fill("{\"live\":true}", Pages::sentences); }

}  // namespace qkv::lens
