// A JSON file with the errors a person can act on: the file, the key, what was expected.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::models {

// Any JSON. Throws std::runtime_error if the file cannot be read or is no JSON.
nlohmann::json read_json(const std::filesystem::path& path);

class JsonFile {
 public:
  // Throws std::runtime_error if the file cannot be read or is not a JSON object.
  explicit JsonFile(std::filesystem::path path);

  // The value of a key; null if it is absent or null.
  const nlohmann::json* find(std::string_view key) const;

  // Each throws std::runtime_error if the key is there with another type or outside [least, most]; without a fallback,
  // also if it is absent.
  int integer(std::string_view key, int least, int most) const;
  int integer(std::string_view key, int least, int most, int fallback) const;
  float number(std::string_view key, float fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string string(std::string_view key) const;
  // One integer or a list of them; empty if absent.
  std::vector<int> integers(std::string_view key, int least, int most) const;

  // Throws std::runtime_error "FILE: KEY: WHAT".
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;

  const nlohmann::json& root() const { return root_; }

 private:
  std::filesystem::path path_;
  nlohmann::json root_;
};

}  // namespace qkv::models
