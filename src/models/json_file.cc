#include "models/json_file.h"

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace qkv::models {

using nlohmann::json;

namespace {

int checked_integer(const JsonFile& file, std::string_view key, const json& value, int least,
                    int most) {
  const std::string expected =
      "expected an integer from " + std::to_string(least) + " to " + std::to_string(most);
  if (!value.is_number_integer()) file.fail(key, expected + ", got " + value.dump());
  const bool above_all = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX;
  const auto number = value.get<std::int64_t>();
  if (above_all || number < least || number > most)
    file.fail(key, expected + ", got " + value.dump());
  return static_cast<int>(number);
}

}  // namespace

json read_json(const std::filesystem::path& path) {
  std::ifstream stream(path);
  if (!stream) throw std::runtime_error(path.string() + ": cannot be read");
  // as one text, which is parsed twice as fast as a stream
  const std::string text = (std::ostringstream() << stream.rdbuf()).str();
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    throw std::runtime_error(path.string() + ": is not valid JSON: " + error.what());
  }
}

JsonFile::JsonFile(std::filesystem::path path) : path_(std::move(path)), root_(read_json(path_)) {
  if (!root_.is_object()) throw std::runtime_error(path_.string() + ": expected a JSON object");
}

const json* JsonFile::find(std::string_view key) const {
  const auto found = root_.find(key);
  return found == root_.end() || found->is_null() ? nullptr : &*found;
}

void JsonFile::fail(std::string_view key, const std::string& what) const {
  throw std::runtime_error(path_.string() + ": " + std::string(key) + ": " + what);
}

int JsonFile::integer(std::string_view key, int least, int most) const {
  const json* value = find(key);
  if (value == nullptr) fail(key, "is missing");
  return checked_integer(*this, key, *value, least, most);
}

int JsonFile::integer(std::string_view key, int least, int most, int fallback) const {
  const json* value = find(key);
  return value == nullptr ? fallback : checked_integer(*this, key, *value, least, most);
}

float JsonFile::number(std::string_view key, float fallback) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) fail(key, "expected a number, got " + value->dump());
  return value->get<float>();
}

bool JsonFile::boolean(std::string_view key, bool fallback) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(key, "expected true or false, got " + value->dump());
  return value->get<bool>();
}

std::string JsonFile::string(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) fail(key, "is missing");
  if (!value->is_string()) fail(key, "expected a string, got " + value->dump());
  return value->get<std::string>();
}

std::vector<int> JsonFile::integers(std::string_view key, int least, int most) const {
  const json* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array()) return {checked_integer(*this, key, *value, least, most)};
  std::vector<int> all;
  for (const json& one : *value) all.push_back(checked_integer(*this, key, one, least, most));
  return all;
}

}  // namespace qkv::models
