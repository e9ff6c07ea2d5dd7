// The index beside reading every row: rows read, error asked, certified and actual, time.
//
//   memory_index [--rows N] [--dim D] [--queries Q] [--threads T] [--turns N] [--minilm FILE] [--scale S …] [--only NAME]
//
// A time is the mean over queries of the best of a few turns.
//
// Clustered keys: 4,000 directions on the unit sphere, each row one of them and noise of a fifth of its length. Isotropic keys:
// each number standard normal. MiniLM: FILE holds float32 rows of 384, the queries are its last rows, which are left out of the
// memory. Values are the keys themselves where keys have unit length, and standard normal for isotropic keys. Exact is float64 over every row.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "attention/parallel.h"
#include "qkv/qkv.h"

namespace {

using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

template <class Call>
double best_ms(int turns, const Call& call) {
  double best = std::numeric_limits<double>::infinity();
  for (int turn = 0; turn < turns; ++turn) {
    const Clock::time_point start = Clock::now();
    call();
    best = std::min(best, ms_since(start));
  }
  return best;
}

struct Memory {
  std::int64_t rows = 0, dim = 0;
  std::vector<float> keys, values, queries;  // values empty: the keys
  std::span<const float> value_rows() const { return values.empty() ? keys : values; }
};

// Rows [begin, end) of `to` from their own generator, so that threads share the work.
template <class F>
void fill(int threads, std::uint64_t seed, std::int64_t rows, const F& row) {
  constexpr std::int64_t kTogether = 4096;
  qkv::parallel_for(threads, (rows + kTogether - 1) / kTogether, [&](std::int64_t chunk) {
    std::mt19937_64 random(seed + static_cast<std::uint64_t>(chunk));
    for (std::int64_t i = chunk * kTogether; i < std::min(rows, (chunk + 1) * kTogether); ++i)
      row(i, random);
  });
}

void normalise(float* row, std::int64_t dim, float length) {
  double squares = 0;
  for (std::int64_t d = 0; d < dim; ++d) squares += double{row[d]} * row[d];
  const auto factor = static_cast<float>(length / std::sqrt(squares));
  for (std::int64_t d = 0; d < dim; ++d) row[d] *= factor;
}

Memory clustered(std::int64_t rows, std::int64_t dim, std::int64_t queries, int threads) {
  constexpr std::int64_t kClusters = 4000;
  std::vector<float> centres(static_cast<std::size_t>(kClusters * dim));
  fill(threads, 1, kClusters, [&](std::int64_t i, std::mt19937_64& random) {
    std::normal_distribution<float> normal;
    for (std::int64_t d = 0; d < dim; ++d)
      centres[static_cast<std::size_t>(i * dim + d)] = normal(random);
    normalise(centres.data() + i * dim, dim, 1);
  });
  Memory memory{
      rows, dim, std::vector<float>(static_cast<std::size_t>((rows + queries) * dim)), {}, {}};
  fill(threads, 1'000, rows + queries, [&](std::int64_t i, std::mt19937_64& random) {
    std::normal_distribution<float> normal;
    float* row = memory.keys.data() + i * dim;
    const auto c = static_cast<std::int64_t>(random() % kClusters);
    for (std::int64_t d = 0; d < dim; ++d) row[d] = normal(random);
    normalise(row, dim, 0.2f);
    for (std::int64_t d = 0; d < dim; ++d) row[d] += centres[static_cast<std::size_t>(c * dim + d)];
    normalise(row, dim, 1);
  });
  memory.queries.assign(memory.keys.begin() + rows * dim, memory.keys.end());
  memory.keys.resize(static_cast<std::size_t>(rows * dim));
  return memory;
}

Memory isotropic(std::int64_t rows, std::int64_t dim, std::int64_t queries, int threads) {
  Memory memory{rows, dim, {}, {}, {}};
  const auto draw = [&](std::vector<float>& to, std::int64_t count, std::uint64_t seed) {
    to.resize(static_cast<std::size_t>(count * dim));
    fill(threads, seed, count, [&](std::int64_t i, std::mt19937_64& random) {
      std::normal_distribution<float> normal;
      for (std::int64_t d = 0; d < dim; ++d)
        to[static_cast<std::size_t>(i * dim + d)] = normal(random);
    });
  };
  draw(memory.keys, rows, 1'000'000);
  draw(memory.values, rows, 2'000'000);
  draw(memory.queries, queries, 3'000'000);
  return memory;
}

Memory stored(const std::string& path, std::int64_t dim, std::int64_t queries, std::int64_t most) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot read " + path);
  const std::int64_t rows =
      std::min(most + queries, static_cast<std::int64_t>(file.tellg()) / (dim * 4)) - queries;
  if (rows < 1) throw std::runtime_error(path + " holds too few rows");
  Memory memory{
      rows, dim, std::vector<float>(static_cast<std::size_t>((rows + queries) * dim)), {}, {}};
  file.seekg(0);
  file.read(reinterpret_cast<char*>(memory.keys.data()),
            static_cast<std::streamsize>(memory.keys.size() * sizeof(float)));
  // Queries from all over the file: every (rows / queries)-th row changes places with one of the last.
  for (std::int64_t q = 0; q < queries; ++q) {
    float* a = memory.keys.data() + q * (rows / queries) * dim;
    std::swap_ranges(a, a + dim, memory.keys.data() + (rows + q) * dim);
  }
  memory.queries.assign(memory.keys.begin() + rows * dim, memory.keys.end());
  memory.keys.resize(static_cast<std::size_t>(rows * dim));
  return memory;
}

// Σ softmax(scale·q·k)·v in float64.
std::vector<double> exact(const Memory& memory, std::span<const float> query, double scale,
                          int threads) {
  constexpr std::int64_t kTogether = 8192;
  const std::int64_t dim = memory.dim, chunks = (memory.rows + kTogether - 1) / kTogether;
  std::vector<qkv::MemoryState> parts(static_cast<std::size_t>(chunks), qkv::MemoryState(dim));
  qkv::parallel_for(threads, chunks, [&](std::int64_t chunk) {
    for (std::int64_t i = chunk * kTogether; i < std::min(memory.rows, (chunk + 1) * kTogether);
         ++i) {
      double dot[4] = {0, 0, 0, 0};
      const float* key = memory.keys.data() + i * dim;
      for (std::int64_t d = 0; d < dim; ++d)
        dot[d % 4] += double{query[static_cast<std::size_t>(d)]} * double{key[d]};
      parts[static_cast<std::size_t>(chunk)].add(
          scale * (dot[0] + dot[1] + dot[2] + dot[3]),
          memory.value_rows().subspan(static_cast<std::size_t>(i * dim),
                                      static_cast<std::size_t>(dim)));
    }
  });
  for (std::size_t p = 1; p < parts.size(); ++p) parts[0].merge(parts[p]);
  std::vector<double> out(static_cast<std::size_t>(dim));
  parts[0].value(out);
  return out;
}

void measure(const std::string& name, const Memory& memory, const std::vector<double>& scales,
             int threads, int turns) {
  const std::int64_t dim = memory.dim, rows = memory.rows;
  const std::int64_t queries = static_cast<std::int64_t>(memory.queries.size()) / dim;
  std::vector<std::int64_t> ids(static_cast<std::size_t>(rows));
  for (std::int64_t i = 0; i < rows; ++i) ids[static_cast<std::size_t>(i)] = i;
  const auto start = Clock::now();
  double shown = 0;
  qkv::MemoryIndex::Options options;
  options.threads = threads;
  options.progress = [&](double done) {
    if (ms_since(start) < 1000 * (shown + 1)) return;
    shown = ms_since(start) / 1000;
    std::fprintf(stderr, "\r%s: index of %lld rows %3.0f%%", name.c_str(),
                 static_cast<long long>(rows), 100 * done);
  };
  const qkv::MemoryIndex index(ids, memory.keys, dim, memory.value_rows(), dim, options);
  std::fprintf(stderr, "\r%s: index of %lld rows in %.1f s, %lld blocks\n", name.c_str(),
               static_cast<long long>(rows), ms_since(start) / 1000,
               static_cast<long long>(index.blocks()));
  for (const double scale : scales) {
    std::vector<std::vector<double>> right;
    double scan = 0;
    std::vector<float> out(static_cast<std::size_t>(dim)), lse(1);
    for (std::int64_t q = 0; q < queries; ++q) {
      const std::span<const float> query =
          std::span(memory.queries)
              .subspan(static_cast<std::size_t>(q * dim), static_cast<std::size_t>(dim));
      right.push_back(exact(memory, query, static_cast<float>(scale), threads));
      qkv::AttentionOptions plain;
      plain.scale = static_cast<float>(scale);
      plain.threads = threads;
      scan += best_ms(turns, [&] {
        qkv::attention({query.data(), {1, 1, 1, dim}}, {memory.keys.data(), {1, 1, rows, dim}},
                       {memory.value_rows().data(), {1, 1, rows, dim}}, plain,
                       {{out.data(), {1, 1, 1, dim}}, lse});
      });
    }
    for (const double asked : {0.1, 0.01, 0.001}) {
      double read = 0, codes = 0, certified = 0, actual = 0, taken = 0;
      std::int64_t everything = 0;
      for (std::int64_t q = 0; q < queries; ++q) {
        const std::span<const float> query =
            std::span(memory.queries)
                .subspan(static_cast<std::size_t>(q * dim), static_cast<std::size_t>(dim));
        qkv::IndexQuery question;
        question.scale = scale;
        question.max_error = asked;
        question.threads = threads;
        qkv::IndexAnswer answer;
        taken += best_ms(turns, [&] { answer = index.attend(query, question); });
        double squares = 0;
        for (std::size_t d = 0; d < right[0].size(); ++d)
          squares += std::pow(double{answer.value[d]} - right[static_cast<std::size_t>(q)][d], 2);
        read += static_cast<double>(answer.rows_read);
        codes += static_cast<double>(answer.codes_read);
        everything += answer.everything() ? 1 : 0;
        certified = std::max(certified, answer.err_bound);
        actual = std::max(actual, std::sqrt(squares));
      }
      const auto mean = [&](double sum) { return sum / static_cast<double>(queries); };
      std::printf(
          "| %s | %g | %g | %.3g | %.2g | %.0f (%.2f%%) | %.0f | %lld of %lld | %.1f | %.1f | "
          "%.1f× |\n",
          name.c_str(), scale, asked, certified, actual, mean(read),
          100 * mean(read) / static_cast<double>(rows), mean(codes),
          static_cast<long long>(everything), static_cast<long long>(queries), mean(taken),
          mean(scan), scan / taken);
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The index over a large memory beside reading every row");
  std::int64_t rows = 100'000, dim = 384, queries = 10;
  int threads = 0, turns = 3;
  std::string minilm, only;
  std::vector<double> scales{20, 50, 100};
  app.add_option("--rows", rows, "rows of each memory")->capture_default_str();
  app.add_option("--dim", dim, "numbers in a key")->capture_default_str();
  app.add_option("--queries", queries, "questions")->capture_default_str();
  app.add_option("--threads", threads, "0: one for each core")->capture_default_str();
  app.add_option("--turns", turns, "times that each is measured")->capture_default_str();
  app.add_option("--minilm", minilm, "file of float32 vectors, 384 each");
  app.add_option("--only", only, "one of MiniLM, clustered, isotropic; all unless given");
  app.add_option("--scale", scales, "of unit keys; isotropic ones have 1/√dim")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  std::printf(
      "| keys | scale | error asked | certified (largest) | actual (largest) | rows read (mean) | "
      "codes read (mean) | read everything | ms | exact scan ms | faster |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n");
  try {
    const auto wanted = [&](const char* name) { return only.empty() || only == name; };
    if (!minilm.empty() && wanted("MiniLM"))
      measure("MiniLM", stored(minilm, 384, queries, rows), scales, threads, turns);
    if (wanted("clustered"))
      measure("clustered", clustered(rows, dim, queries, threads), scales, threads, turns);
    if (wanted("isotropic"))
      measure("isotropic", isotropic(rows, dim, queries, threads),
              {1 / std::sqrt(static_cast<double>(dim))}, threads, turns);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "memory_index: %s\n", error.what());
    return 1;
  }
}
