#include "library/titles.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "models/mapped_file.h"
#include "models/utf8.h"

namespace qkv::library {
namespace {

using json = nlohmann::ordered_json;  // keys in the order of the file

constexpr std::size_t kLongestRow = std::size_t{16} << 20;  // bytes
constexpr std::size_t kRowsToGuess = 100;

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw std::runtime_error(path.string() + ": " + what);
}

std::string lower(std::string_view text) {
  std::string small(text);
  for (char& c : small)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return small;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const std::size_t from = text.find_first_not_of(kSpace);
  return from == std::string_view::npos
             ? ""
             : text.substr(from, text.find_last_not_of(kSpace) - from + 1);
}

bool is_number(std::string_view text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error != std::errc::invalid_argument && stop == text.data() + text.size();
}

// One row as its format cuts it.
struct Cut {
  std::uint64_t line = 0;
  std::vector<std::string> fields;
  std::string wrong;  // why it is no row
};

// Rows of a text one after another.
class Rows {
 public:
  Rows(std::string_view text, bool csv) : text_(text), csv_(csv) {}

  // The next row; nothing at the end.
  std::optional<Cut> next() {
    while (at_ < text_.size()) {
      Cut cut;
      cut.line = ++line_;
      const std::size_t end = std::min(text_.find('\n', at_), text_.size());
      if (trimmed(text_.substr(at_, end - at_)).empty()) {
        at_ = end + 1;
        continue;
      }
      if (csv_) {
        quoted_row(cut);
      } else if (end - at_ > kLongestRow) {
        cut.wrong = too_long(end - at_);
      } else {
        tab_row(cut, end);
      }
      if (!cut.wrong.empty() || !csv_) at_ = end + 1;
      return cut;
    }
    return std::nullopt;
  }

 private:
  static std::string too_long(std::size_t size) {
    return "a row of " + std::to_string(size) + " bytes; at most " + std::to_string(kLongestRow) +
           " are read";
  }

  void tab_row(Cut& cut, std::size_t end) const {
    std::string_view row = text_.substr(at_, end - at_);
    if (row.ends_with('\r')) row.remove_suffix(1);
    for (std::size_t from = 0; from <= row.size();) {
      const std::size_t to = std::min(row.find('\t', from), row.size());
      cut.fields.emplace_back(row.substr(from, to - from));
      from = to + 1;
    }
  }

  // A wrong row ends with its first line, so that an open quotation mark takes no other row with it.
  void quoted_row(Cut& cut) {
    std::size_t at = at_;
    std::uint64_t lines = 0;
    const auto wrong = [&](std::string why) { cut.wrong = std::move(why); };
    for (;;) {
      std::string& field = cut.fields.emplace_back();
      if (at < text_.size() && text_[at] == '"') {
        for (++at;; ++at) {
          if (at >= text_.size())
            return wrong("the quotation mark of column " + std::to_string(cut.fields.size()) +
                         " is not closed");
          if (at - at_ > kLongestRow) return wrong(too_long(at - at_));
          if (text_[at] == '"') {
            if (at + 1 >= text_.size() || text_[at + 1] != '"') break;
            ++at;
          }
          lines += text_[at] == '\n';
          field += text_[at];
        }
        ++at;
        if (at < text_.size() && text_[at] == '\r') ++at;
        if (at < text_.size() && text_[at] != ',' && text_[at] != '\n')
          return wrong("after the closing quotation mark of column " +
                       std::to_string(cut.fields.size()) + " a comma or the line's end is missing");
      } else {
        const std::size_t end = std::min(text_.find_first_of(",\n", at), text_.size());
        if (end - at_ > kLongestRow) return wrong(too_long(end - at_));
        field = text_.substr(at, end - at);
        if (field.ends_with('\r')) field.pop_back();
        at = end;
      }
      if (at >= text_.size() || text_[at] == '\n') break;
      ++at;  // the comma
    }
    at_ = at + 1;
    line_ += lines;
  }

  std::string_view text_;
  bool csv_;
  std::size_t at_ = 0;
  std::uint64_t line_ = 0;
};

Titles read_columns(const std::filesystem::path& path, std::string_view text, bool csv,
                    const TitleOptions& options) {
  Titles titles;
  std::vector<std::string> names;
  Rows rows(text, csv);
  std::optional<Cut> first = rows.next();
  if (!first) fail(path, "is empty");
  std::vector<Cut> ahead;  // rows read to know the columns
  if (options.header) {
    if (!first->wrong.empty())
      fail(path,
           "line " + std::to_string(first->line) + ", which names the columns: " + first->wrong);
    for (const std::string& name : first->fields) {
      if (!models::is_utf8(name)) fail(path, "the names of the columns are not valid UTF-8");
      names.emplace_back(trimmed(name));
    }
  } else {
    ahead.push_back(std::move(*first));
  }
  while (ahead.size() < kRowsToGuess) {
    std::optional<Cut> row = rows.next();
    if (!row) break;
    ahead.push_back(std::move(*row));
  }
  if (!options.header) {
    std::size_t most = 0;
    for (const Cut& row : ahead) most = std::max(most, row.fields.size());
    for (std::size_t i = 1; i <= most; ++i) names.push_back(std::to_string(i));
  }
  std::ptrdiff_t text_column = -1;
  for (std::size_t c = 0; c < names.size() && text_column < 0; ++c)
    for (const Cut& row : ahead)
      if (c < row.fields.size() && !trimmed(row.fields[c]).empty() &&
          !is_number(trimmed(row.fields[c]))) {
        text_column = static_cast<std::ptrdiff_t>(c);
        break;
      }
  const std::size_t column = choose_column(path, names, options.column, text_column);
  titles.column = names[column];
  const auto take = [&](const Cut& row) {
    if (!row.wrong.empty()) return titles.skip(row.line, row.wrong);
    if (row.fields.size() != names.size())
      return titles.skip(row.line, "expected " + std::to_string(names.size()) + " columns, got " +
                                       std::to_string(row.fields.size()));
    titles.add(row.fields[column], row.line);
  };
  for (const Cut& row : ahead) take(row);
  while (const std::optional<Cut> row = rows.next()) take(*row);
  return titles;
}

// Calls f(line, number, too long) for each line.
template <class F>
void each_line(std::string_view text, const F& f) {
  std::uint64_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    f(text.substr(at, end - at), ++number);
    at = end + 1;
  }
}

Titles read_lines(std::string_view text) {
  Titles titles;
  titles.column = "line";
  each_line(text, [&](std::string_view line, std::uint64_t number) {
    if (line.size() > kLongestRow) return titles.skip(number, "the line is too long");
    titles.add(line, number);
  });
  return titles;
}

Titles read_objects(const std::filesystem::path& path, std::string_view text,
                    const TitleOptions& options) {
  Titles titles;
  std::vector<std::pair<std::uint64_t, json>> ahead;
  std::optional<std::string> column;  // not chosen yet; a key may be ""
  const auto take = [&](std::uint64_t line, const json& object) {
    const auto found = object.find(*column);
    if (found == object.end() || found->is_null()) {
      ++titles.blank;
    } else if (!found->is_string()) {
      titles.skip(line, "\"" + *column + "\" is no text, got " + std::string(found->type_name()));
    } else {
      titles.add(found->get_ref<const std::string&>(), line);
    }
  };
  const auto choose = [&] {  // among the keys of the first objects, in the order in which they come
    std::vector<std::string> names;
    std::ptrdiff_t text_column = -1;
    for (const auto& [line, object] : ahead)
      for (const auto& [key, value] : object.items())
        if (std::find(names.begin(), names.end(), key) == names.end()) {
          names.push_back(key);
          if (text_column < 0 && value.is_string()) text_column = std::ssize(names) - 1;
        }
    column = names[choose_column(path, names, options.column, text_column)];
    titles.column = *column;
    for (const auto& [line, each] : ahead) take(line, each);
    ahead.clear();
  };
  each_line(text, [&](std::string_view row, std::uint64_t number) {
    if (trimmed(row).empty()) return;
    if (row.size() > kLongestRow) return titles.skip(number, "the line is too long");
    json object;
    try {
      object = json::parse(row);
    } catch (const json::exception&) {
      return titles.skip(number, "is not valid JSON");
    }
    if (!object.is_object())
      return titles.skip(number, std::string("expected an object, got ") + object.type_name());
    if (column) return take(number, object);
    ahead.emplace_back(number, std::move(object));
    if (ahead.size() == kRowsToGuess) choose();
  });
  if (!ahead.empty()) choose();
  return titles;
}

std::string format_of(const std::filesystem::path& path, std::string_view text) {
  const std::string ending = lower(path.extension().string());
  if (ending == ".tsv" || ending == ".tab") return "tsv";
  if (ending == ".csv") return "csv";
  if (ending == ".jsonl" || ending == ".ndjson") return "jsonl";
  if (ending == ".txt") return "lines";
  const std::string_view first = text.substr(0, std::min(text.find('\n'), text.size()));
  if (trimmed(first).starts_with('{')) return "jsonl";
  if (first.find('\t') != std::string_view::npos) return "tsv";
  return first.find(',') != std::string_view::npos ? "csv" : "lines";
}

}  // namespace

void Titles::skip(std::uint64_t line, const std::string& why) {
  if (++skipped <= kMostNotes) notes.push_back("line " + std::to_string(line) + ": " + why);
}

void Titles::add(std::string_view text, std::uint64_t line) {
  const std::string_view title = trimmed(text);
  if (title.empty()) {
    ++blank;
  } else if (!models::is_utf8(title)) {
    skip(line, "the title is not valid UTF-8");
  } else {
    rows.push_back({std::string(title), line});
  }
}

std::size_t choose_column(const std::filesystem::path& path, const std::vector<std::string>& names,
                          const std::string& wanted, std::ptrdiff_t text_column) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (wanted.empty() ? lower(names[i]) == "title" : names[i] == wanted) return i;
  if (wanted.empty() && text_column >= 0) return static_cast<std::size_t>(text_column);
  std::string known;
  for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
  if (!wanted.empty()) fail(path, "has no column \"" + wanted + "\"; it has " + known);
  fail(path, "has no column of text; it has " + (known.empty() ? "none" : known));
}

Titles read_titles(const std::filesystem::path& path, const TitleOptions& options) {
  const models::MappedFile file = models::map_file(path);
  std::string_view text(reinterpret_cast<const char*>(file.bytes.get()), file.size);
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    fail(path, "is UTF-16; expected UTF-8");
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (trimmed(text).empty()) fail(path, "is empty");
  const std::string format = options.format.empty() ? format_of(path, text) : options.format;
  Titles titles = format == "lines"   ? read_lines(text)
                  : format == "jsonl" ? read_objects(path, text, options)
                                      : read_columns(path, text, format == "csv", options);
  if (titles.rows.empty()) {
    std::string what = "has no titles";
    if (!titles.notes.empty()) what += "; " + titles.notes.front();
    fail(path, what);
  }
  return titles;
}

}  // namespace qkv::library
