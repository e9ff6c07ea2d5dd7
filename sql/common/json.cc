#include "sql/common/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace qkv::sql {
namespace {

using nlohmann::json;

// A vector is one flat array of numbers; whatever else comes stops the parser.
class VectorReader : public nlohmann::json_sax<json> {
 public:
  std::vector<float> numbers;
  std::string wrong;

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("true or false"); }
  bool number_integer(number_integer_t x) override { return take(static_cast<double>(x)); }
  bool number_unsigned(number_unsigned_t x) override { return take(static_cast<double>(x)); }
  bool number_float(number_float_t x, const string_t&) override { return take(x); }
  bool string(string_t&) override { return refuse("a string"); }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool start_object(std::size_t) override { return refuse("an object"); }
  bool key(string_t&) override { return refuse("an object"); }
  bool end_object() override { return refuse("an object"); }
  bool start_array(std::size_t) override { return inside_ ? refuse("an array") : (inside_ = true); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t at, const std::string&,
                   const nlohmann::detail::exception&) override {
    if (wrong.empty()) wrong = "not a JSON array of numbers, at byte " + std::to_string(at);
    return false;
  }

 private:
  bool refuse(const char* what) {
    wrong = std::string("not a JSON array of numbers: ") + what +
            (inside_ ? " at number " + std::to_string(numbers.size() + 1) : "");
    return false;
  }
  bool take(double x) {
    if (!inside_) return refuse("a number alone");
    const auto narrow = static_cast<float>(x);
    if (!std::isfinite(narrow)) {
      wrong = "number " + std::to_string(numbers.size() + 1) + " is too large for float32";
      return false;
    }
    numbers.push_back(narrow);
    return true;
  }
  bool inside_ = false;
};

}  // namespace

std::vector<float> vector_from_json(std::string_view text) {
  VectorReader reader;
  if (!json::sax_parse(text.begin(), text.end(), &reader))
    throw std::invalid_argument(reader.wrong);
  if (reader.numbers.empty()) throw std::invalid_argument("an empty vector");
  return std::move(reader.numbers);
}

std::string vector_to_json(std::span<const float> numbers) {
  std::string text = "[";
  for (const float x : numbers) {
    char digits[32];
    if (text.size() > 1) text += ',';
    text.append(digits, std::to_chars(digits, digits + sizeof digits, x).ptr);
  }
  return text += ']';
}

std::string json_string(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string json_number(double number) { return json(number).dump(); }

std::string top_to_json(const MemoryState& state) {
  std::string text = "{\"top\":[";
  double remainder = 1;
  const std::vector<MemoryRow> best = state.best();
  for (const MemoryRow& row : best) {
    if (text.back() != '[') text += ',';
    text += "{\"label\":" + row.label + ",\"weight\":" + json_number(row.weight) +
            ",\"percent\":" + json_number(std::round(row.weight * 1e4) / 100) + "}";
    remainder -= row.weight;
  }
  // Fewer rows than places: nothing is left out, whatever the roundings of the difference say.
  const bool all = best.size() < static_cast<std::size_t>(state.top()) ||
                   static_cast<std::int64_t>(best.size()) == state.rows();
  return text + "],\"remainder\":" + json_number(all ? 0.0 : std::max(0.0, remainder)) +
         ",\"rows\":" + std::to_string(state.rows()) + "}";
}

std::string stats_to_json(const MemoryState& state) {
  return "{\"rows\":" + std::to_string(state.rows()) +
         ",\"entropy\":" + json_number(state.entropy()) +
         ",\"effective_rows\":" + json_number(state.effective_rows()) +
         ",\"max_weight\":" + json_number(state.max_weight()) +
         ",\"logsumexp\":" + json_number(state.log_sum_exp()) + "}";
}

}  // namespace qkv::sql
