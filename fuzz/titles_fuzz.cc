// Any bytes as a file of titles, in each format: refused with std::runtime_error, or every row is accounted for, and the titles written
// anew are read as the same ones. The first byte chooses the format, the header and the column, the rest is the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "fuzz/file.h"
#include "library/titles.h"
#include "models/utf8.h"

namespace {

using qkv::library::Title;
using qkv::library::TitleOptions;
using qkv::library::Titles;

void require(bool fact) {
  if (!fact) std::abort();
}

std::optional<Titles> read(std::string_view bytes, const TitleOptions& options) {
  const MemoryFile file(bytes);
  try {
    return qkv::library::read_titles(file.path(), options);
  } catch (const std::runtime_error&) {
    return std::nullopt;
  }
}

void check(const Titles& titles, std::string_view bytes) {
  const auto lines = static_cast<std::uint64_t>(std::count(bytes.begin(), bytes.end(), '\n')) + 1;
  require(!titles.rows.empty());
  require(titles.rows.size() + titles.skipped + titles.blank <= lines);
  require(titles.notes.size() == std::min<std::uint64_t>(titles.skipped, Titles::kMostNotes));
  std::uint64_t before = 0;
  for (const Title& title : titles.rows) {
    require(title.line > before && title.line <= lines);
    before = title.line;
    require(!title.text.empty() && qkv::models::is_utf8(title.text));
    require(title.text.find_first_of(" \t\r\n\v\f") != 0);
  }
}

void require_same(const Titles& titles, const std::string& bytes, const std::string& format) {
  const auto again = read(bytes, {format, "title", true});
  require(again && again->skipped == 0 && again->blank == 0);
  require(again->rows.size() == titles.rows.size());
  for (std::size_t i = 0; i < titles.rows.size(); ++i)
    require(again->rows[i].text == titles.rows[i].text);
}

void write_again(const Titles& titles) {
  std::string csv = "number,title\n", jsonl;
  for (const Title& title : titles.rows) {
    csv += "1,\"";
    for (const char c : title.text) csv += c == '"' ? "\"\"" : std::string(1, c);
    csv += "\"\n";
    jsonl += nlohmann::json{{"number", 1}, {"title", title.text}}.dump() + "\n";
  }
  require_same(titles, csv, "csv");
  require_same(titles, jsonl, "jsonl");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr const char* kFormats[] = {"tsv", "csv", "jsonl", "lines", ""};
  constexpr const char* kColumns[] = {"", "title", "1"};
  const TitleOptions options{kFormats[data[0] % 5], kColumns[data[0] / 5 % 3],
                             data[0] / 15 % 2 == 0};
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  if (const auto titles = read(bytes, options)) {
    check(*titles, bytes);
    write_again(*titles);
  }
  return 0;
}
