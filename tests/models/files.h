// What the tests of models/ share: folders that go away, safetensors files, tiny SentencePiece models, a tiny Marian.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/random.h"

namespace qkv::models::testing {

// A folder of its own for a test, removed at its end.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& bytes) const;
  std::string read(const std::string& name) const;

 private:
  std::filesystem::path path_;
};

// Length, header, data.
std::string safetensors_bytes(const std::string& header, const std::string& data);
std::string safetensors_bytes(std::uint64_t length, const std::string& header,
                              const std::string& data);

// A checkpoint of random numbers within ±bound, under the names that transformers gives.
class RandomCheckpoint {
 public:
  explicit RandomCheckpoint(float bound) : bound_(bound) {}
  void add(const std::string& name, const std::vector<std::int64_t>& shape);
  // NAME.weight [out, in] and NAME.bias [out].
  void affine(const std::string& name, std::int64_t out, std::int64_t in);
  // NAME.weight and NAME.bias, both [width].
  void norm(const std::string& name, std::int64_t width);
  // Into model.safetensors.
  void write(const Folder& folder) const;

 private:
  tests::Random random_{1};
  float bound_;
  std::string entries_, data_;
};

// A SentencePiece unigram model: <unk> and </s>, all 256 bytes, then these pieces, likelier the longer they are.
std::string sentencepiece_bytes(const std::vector<std::string>& pieces);

// A complete Marian folder with random weights, one layer each, width 8, for the languages zh and en.
void write_marian(const Folder& folder);

// The message of what `run` throws, which must be an Error; "" if it throws nothing.
template <class Error, class Run>
std::string message_of(const Run& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace qkv::models::testing
