#include "models/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>

#include "kernels/half.h"
#include "models/mapped_file.h"

namespace qkv::models {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestHeader = 100'000'000;  // the format's own limit

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw std::runtime_error(path.string() + ": " + what);
}

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view tensor,
                       const std::string& what) {
  fail(path, "tensor '" + std::string(tensor) + "': " + what);
}

// Bytes of one element; 0 for a type that the format does not know.
std::size_t element_bytes(std::string_view dtype) {
  static constexpr std::array<std::pair<std::string_view, std::size_t>, 15> kTypes = {
      {{"BOOL", 1},
       {"U8", 1},
       {"I8", 1},
       {"F8_E5M2", 1},
       {"F8_E4M3", 1},
       {"U16", 2},
       {"I16", 2},
       {"F16", 2},
       {"BF16", 2},
       {"U32", 4},
       {"I32", 4},
       {"F32", 4},
       {"U64", 8},
       {"I64", 8},
       {"F64", 8}}};
  for (const auto& [name, bytes] : kTypes)
    if (name == dtype) return bytes;
  return 0;
}

std::uint64_t little_endian_64(const std::byte* bytes) {
  std::uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return value;
}

json parse_header(const std::filesystem::path& path, const std::byte* text, std::size_t length) {
  std::set<std::string> names;
  const json::parser_callback_t refuse_twice = [&](int depth, json::parse_event_t event,
                                                   json& parsed) {
    if (depth == 1 && event == json::parse_event_t::key &&
        !names.insert(parsed.get<std::string>()).second)
      fail(path, parsed.get<std::string>(), "appears twice in the header");
    return true;
  };
  try {
    const auto* begin = reinterpret_cast<const char*>(text);
    return json::parse(begin, begin + length, refuse_twice);
  } catch (const json::exception& error) {
    fail(path, std::string("the header is not valid JSON: ") + error.what());
  }
}

Safetensors::Entry parse_entry(const std::filesystem::path& path, const std::string& name,
                               const json& value, std::size_t data_bytes) {
  if (!value.is_object()) fail(path, name, "its header entry is not an object");
  Safetensors::Entry entry;
  const auto dtype = value.find("dtype");
  if (dtype == value.end() || !dtype->is_string())
    fail(path, name, "dtype is missing or not a string");
  entry.dtype = dtype->get<std::string>();
  const std::size_t bytes_each = element_bytes(entry.dtype);
  if (bytes_each == 0) fail(path, name, "unknown dtype '" + entry.dtype + "'");

  const auto shape = value.find("shape");
  if (shape == value.end() || !shape->is_array())
    fail(path, name, "shape is missing or not an array");
  std::uint64_t bytes = bytes_each;
  bool too_large = false;
  for (const json& size : *shape) {
    if (!size.is_number_unsigned())
      fail(path, name, "shape " + shape->dump() + " has an entry that is not a size");
    const auto length = size.get<std::uint64_t>();
    if (length > static_cast<std::uint64_t>(INT64_MAX))
      fail(path, name, "shape " + shape->dump() + " is too large");
    too_large |= __builtin_mul_overflow(bytes, length, &bytes);
    entry.shape.push_back(static_cast<std::int64_t>(length));
  }
  const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  if (empty) bytes = 0;
  if (too_large && !empty) fail(path, name, "shape " + shape->dump() + " is too large");

  const auto offsets = value.find("data_offsets");
  if (offsets == value.end() || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned())
    fail(path, name, "data_offsets is missing or not a pair of offsets");
  const auto begin = (*offsets)[0].get<std::uint64_t>();
  const auto end = (*offsets)[1].get<std::uint64_t>();
  if (begin > end || end > data_bytes)
    fail(path, name,
         "data_offsets " + offsets->dump() + " lie outside the data (" +
             std::to_string(data_bytes) + " bytes); is the file cut off?");
  if (end - begin != bytes)
    fail(path, name,
         "data_offsets " + offsets->dump() + " hold " + std::to_string(end - begin) +
             " bytes, but " + entry.dtype + " " + shape->dump() + " takes " +
             std::to_string(bytes));
  entry.begin = static_cast<std::size_t>(begin);
  entry.end = static_cast<std::size_t>(end);
  return entry;
}

// The tensors must cover the data exactly, as the format asks.
void check_cover(const std::filesystem::path& path,
                 const std::map<std::string, Safetensors::Entry, std::less<>>& entries,
                 std::size_t data_bytes) {
  std::vector<std::pair<const std::string*, const Safetensors::Entry*>> order;
  for (const auto& [name, entry] : entries) order.emplace_back(&name, &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  std::size_t covered = 0;
  const std::string* before = nullptr;
  for (const auto& [name, entry] : order) {
    if (entry->begin < covered) fail(path, *name, "overlaps tensor '" + *before + "'");
    if (entry->begin > covered)
      fail(path, *name,
           "bytes " + std::to_string(covered) + " to " + std::to_string(entry->begin) +
               " before it belong to no tensor");
    covered = entry->end;
    before = name;
  }
  if (covered != data_bytes)
    fail(path, "bytes " + std::to_string(covered) + " to " + std::to_string(data_bytes) +
                   " of the data belong to no tensor");
}

}  // namespace

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

Safetensors Safetensors::open(const std::filesystem::path& path) {
  Safetensors file;
  file.path_ = path;
  const MappedFile mapping = map_file(path);
  if (mapping.size < 8)
    fail(path, "is too short for a safetensors file (" + std::to_string(mapping.size) + " bytes)");
  file.mapping_ = mapping.bytes;
  const std::byte* bytes = mapping.bytes.get();
  const std::uint64_t header = little_endian_64(bytes);
  if (header > kLongestHeader || header > mapping.size - 8)
    fail(path, "the header length " + std::to_string(header) + " exceeds the file (" +
                   std::to_string(mapping.size) + " bytes)");
  const auto header_bytes = static_cast<std::size_t>(header);
  const std::size_t data_bytes = mapping.size - 8 - header_bytes;
  file.data_ = bytes + 8 + header_bytes;

  const json root = parse_header(path, bytes + 8, header_bytes);
  if (!root.is_object()) fail(path, "the header is not a JSON object");
  for (const auto& [name, value] : root.items())
    if (name != "__metadata__")
      file.entries_.emplace(name, parse_entry(path, name, value, data_bytes));
  check_cover(path, file.entries_, data_bytes);
  return file;
}

bool Safetensors::has(std::string_view name) const { return entries_.find(name) != entries_.end(); }

const Safetensors::Entry& Safetensors::entry(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail(path_, name, "is missing");
  return found->second;
}

const Safetensors::Entry& Safetensors::checked(std::string_view name,
                                               std::span<const std::int64_t> shape) const {
  const Entry& found = entry(name);
  if (!std::equal(shape.begin(), shape.end(), found.shape.begin(), found.shape.end()))
    fail(path_, name, "expected shape " + shape_text(shape) + ", got " + shape_text(found.shape));
  if (found.dtype != "F32" && found.dtype != "F16" && found.dtype != "BF16")
    fail(path_, name, "expected dtype F32, F16 or BF16, got " + found.dtype);
  return found;
}

std::vector<float> Safetensors::read(std::string_view name,
                                     std::span<const std::int64_t> shape) const {
  const Entry& found = checked(name, shape);
  const std::byte* source = data_ + found.begin;  // may be unaligned
  const std::size_t bytes = found.end - found.begin;
  if (found.dtype == "F32") {
    if (reinterpret_cast<std::uintptr_t>(source) % alignof(float) == 0) {  // no zeros before
      const auto* first = reinterpret_cast<const float*>(source);
      return {first, first + bytes / 4};
    }
    std::vector<float> values(bytes / 4);
    if (bytes > 0) std::memcpy(values.data(), source, bytes);
    return values;
  }
  const auto convert = found.dtype == "F16" ? kernels::half_to_float : kernels::bfloat16_to_float;
  std::vector<float> values(bytes / 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t stored;
    std::memcpy(&stored, source + 2 * i, 2);
    values[i] = convert(stored);
  }
  return values;
}

Safetensors::Rows Safetensors::rows(std::string_view name, std::int64_t rows,
                                    std::int64_t columns) const {
  const Entry& found = checked(name, std::array{rows, columns});
  Rows all;
  all.mapping_ = mapping_;
  all.data_ = data_ + found.begin;
  all.rows_ = rows;
  all.columns_ = columns;
  if (found.dtype != "F32") {
    all.bytes_each_ = 2;
    all.widen_ = found.dtype == "F16" ? kernels::half_to_float : kernels::bfloat16_to_float;
  }
  return all;
}

void Safetensors::Rows::read(std::int64_t row, float* out) const {
  const std::byte* source = data_ + static_cast<std::size_t>(row * columns_) * bytes_each_;
  if (widen_ == nullptr) {
    std::memcpy(out, source, static_cast<std::size_t>(columns_) * sizeof(float));
    return;
  }
  for (std::int64_t i = 0; i < columns_; ++i) {
    std::uint16_t stored;  // may be unaligned
    std::memcpy(&stored, source + 2 * i, 2);
    out[i] = widen_(stored);
  }
}

}  // namespace qkv::models
