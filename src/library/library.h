// A library that is asked by meaning: titles from a file, a vector of length 1 for each, and attention over them,
//   weight[row] = softmax over all rows of cosine(query, title) / temperature,
// which is softmax(scale·q·k) with scale = 1 / temperature, computed by qkv::attention.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "library/index.h"
#include "library/titles.h"
#include "models/sentence_encoder.h"

namespace qkv::library {

// Where titles come from.
struct Source {
  std::vector<std::filesystem::path>
      files;                     // what they depend on; one that is not there counts as empty
  std::string settings;          // how they are read, as words
  std::function<Titles()> read;  // may throw std::runtime_error
};

struct Progress {
  // Of `all` titles without a vector, `done` have theirs.
  std::function<void(std::size_t done, std::size_t all)> show = [](std::size_t, std::size_t) {};
  void (*waiting)() = [] {};  // another process makes the same index
  // An interruption left the vectors of `known` of `all` different titles.
  std::function<void(std::size_t known, std::size_t all)> resumed = [](std::size_t, std::size_t) {};
};

// The index of a source for a model: the one in the file `path` if it is of this source and this model, else a new one, which
// takes over the vectors of the old one, and of a journal that an interruption left, for titles that are the same. The new one
// is written to `path`; if `may_fail` is set and that fails, `note` says why and the index is in memory alone.
// Throws std::runtime_error.
struct IndexOptions {
  std::filesystem::path path;
  bool may_fail = true;
  int threads = 0;
};
Index open_index(const Source& source, const models::SentenceEncoder& encoder,
                 const IndexOptions& options, const Progress& progress, std::string& note);

struct Hit {
  std::int64_t row = 0;
  double weight = 0;  // share of all rows
  double score = 0;   // cosine
};

struct Answer {
  std::vector<Hit> hits;  // largest weight first
  double remainder = 0;   // 1 − Σ weight of the hits
  double entropy = 0;     // of all weights, in nats
};

// query [dim], any length but 0. temperature > 0, top from 1 to 1024. Throws std::invalid_argument.
Answer ask(const Index& index, std::span<const float> query, double temperature, int top,
           int threads = 0);

}  // namespace qkv::library
