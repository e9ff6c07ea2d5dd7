#include "bench/suite/line.h"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace qkv::bench {
namespace {

constexpr std::array<Kind, 5> kKinds = {Kind::prefill, Kind::decode, Kind::backward, Kind::trace,
                                        Kind::call};
constexpr std::array<Type, 4> kTypes = {Type::f32, Type::bf16, Type::f16, Type::i8};

// Takes the number at the front of `text`, and the separator before it.
bool take(std::string_view& text, std::string_view separator, std::int64_t& number) {
  if (!text.starts_with(separator)) return false;
  text.remove_prefix(separator.size());
  std::size_t digits = 0;
  number = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9' && digits < 12)
    number = 10 * number + (text[digits++] - '0');
  text.remove_prefix(digits);
  return digits > 0 && number > 0;
}

std::string shape_text(const Line& line) {
  std::string text;
  for (const std::int64_t n : {line.batch, line.heads, line.heads_kv, line.queries, line.keys})
    text += std::to_string(n) + ",";
  text += std::to_string(line.dim);
  if (line.dim_v != line.dim) text += ":" + std::to_string(line.dim_v);
  return line.causal ? text + " causal" : text;
}

// Reads one word after the shape; false where it is none, or says again what another word has said.
bool take_word(const std::string& word, Line& line, bool& typed, bool& kinded) {
  if (word == "causal") return !std::exchange(line.causal, true);
  for (const Type type : kTypes) {
    if (word != name_of(type)) continue;
    line.type = type;
    return !std::exchange(typed, true);
  }
  for (const Kind kind : kKinds) {
    if (word != name_of(kind)) continue;
    line.kind = kind;
    return !std::exchange(kinded, true);
  }
  return false;
}

}  // namespace

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::prefill:
      return "prefill";
    case Kind::decode:
      return "decode";
    case Kind::backward:
      return "backward";
    case Kind::trace:
      return "trace";
    case Kind::call:
      break;
  }
  return "call";
}

std::string_view name_of(Type type) {
  switch (type) {
    case Type::f32:
      return "fp32";
    case Type::bf16:
      return "bf16";
    case Type::f16:
      return "fp16";
    case Type::i8:
      break;
  }
  return "int8";
}

std::string Line::name() const {
  std::string text = shape_text(*this);
  if (type != Type::f32) text += " " + std::string(name_of(type));
  if (kind != usual_kind(queries)) text += " " + std::string(name_of(kind));
  return text;
}

std::string Line::full_name() const {
  return shape_text(*this) + " " + std::string(name_of(type)) + " " + std::string(name_of(kind));
}

double Line::flops() const {
  const double scores = static_cast<double>(batch * heads) * static_cast<double>(queries * keys);
  const double forward = 2 * scores * static_cast<double>(dim + dim_v) * (causal ? 0.5 : 1);
  return kind == Kind::backward ? 2.5 * forward : forward;
}

double Line::key_value_bytes() const {
  return static_cast<double>(batch * heads_kv) * static_cast<double>(keys * (dim + dim_v)) *
         static_cast<double>(size_of(type));
}

Line parse_line(const std::string& name) {
  Line line{};
  std::string_view rest = name;
  bool good = take(rest, "", line.batch) && take(rest, ",", line.heads) &&
              take(rest, ",", line.heads_kv) && take(rest, ",", line.queries) &&
              take(rest, ",", line.keys) && take(rest, ",", line.dim);
  line.dim_v = line.dim;
  if (good && rest.starts_with(":")) good = take(rest, ":", line.dim_v);
  good = good && line.heads % line.heads_kv == 0 && (rest.empty() || rest.starts_with(" "));
  line.kind = usual_kind(line.queries);
  std::istringstream words{std::string(rest)};
  bool typed = false, kinded = false;
  for (std::string word; good && words >> word;) good = take_word(word, line, typed, kinded);
  if (!good)
    throw std::invalid_argument(
        "a shape is batch,heads_q,heads_kv,queries,keys,dim[:dim_v][ causal][ type][ kind] with "
        "heads_q a multiple of heads_kv, type fp32, bf16, fp16 or int8, kind prefill, decode, "
        "backward, trace or call, got \"" +
        name + "\"");
  return line;
}

}  // namespace qkv::bench
