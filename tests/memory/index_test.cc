// The index against every row read in long double: err_bound holds on data that is kind, hostile and changing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace qkv {
namespace {

struct Row {
  std::vector<float> key, value;
};
using Rows = std::map<std::int64_t, Row>;

// Weights and their mean value. A score in long double is off by dim·2⁻⁶⁴ of what the index may be off by at least.
struct Exact {
  std::map<std::int64_t, long double> weights;
  std::vector<long double> value;
};

Exact exact(const Rows& rows, const std::vector<float>& query, float scale) {
  Exact answer;
  long double most = -INFINITY, sum = 0;
  for (const auto& [id, row] : rows) {
    long double dot = 0;
    for (std::size_t d = 0; d < query.size(); ++d)
      dot += static_cast<long double>(query[d]) * static_cast<long double>(row.key[d]);
    most = std::max(most, answer.weights[id] = static_cast<long double>(scale) * dot);
  }
  answer.value.resize(rows.begin()->second.value.size());
  for (auto& [id, w] : answer.weights) sum += w = std::exp(w - most);
  for (auto& [id, w] : answer.weights) {
    w /= sum;
    for (std::size_t d = 0; d < answer.value.size(); ++d)
      answer.value[d] += w * static_cast<long double>(rows.at(id).value[d]);
  }
  return answer;
}

double error_of(const IndexAnswer& answer, const Exact& right) {
  long double squares = 0;
  for (std::size_t d = 0; d < right.value.size(); ++d) {
    const long double x = static_cast<long double>(answer.value[d]) - right.value[d];
    squares += x * x;
  }
  return static_cast<double>(std::sqrt(squares));
}

// ½·Σ|p − exact p|
double error_of(const IndexRanking& ranking, const Exact& right) {
  std::map<std::int64_t, long double> weights = right.weights;
  for (const IndexRow& row : ranking.best) weights[row.id] -= row.weight;
  long double sum = 0;
  for (const auto& [id, w] : weights) sum += std::fabs(w);
  return static_cast<double>(sum / 2);
}

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(n));
  }
  float normal(float spread) { return spread * normal_(random_); }
  template <class T>
  T one_of(std::initializer_list<T> of) {
    return of.begin()[below(static_cast<std::int64_t>(of.size()))];
  }
  std::vector<float> vector(std::int64_t dim, float spread) {
    std::vector<float> v(static_cast<std::size_t>(dim));
    for (float& x : v) x = normal(spread);
    return v;
  }

 private:
  std::mt19937_64 random_;
  std::normal_distribution<float> normal_{0, 1};
};

// Clusters from points to clouds, duplicates, offsets and outliers, tiny and huge numbers.
struct Shape {
  std::int64_t dim, value_dim, clusters;
  float key_size, inside, value_size, value_inside, offset;
  bool outliers, mirrored;  // mirrored: most values are their keys
  std::vector<std::vector<float>> keys, values;

  explicit Shape(Draw& draw)
      : dim(draw.one_of<std::int64_t>({1, 2, 3, 8, 17, 33, 64})),
        value_dim(draw.one_of<std::int64_t>({1, 2, 5, 16, 19})),
        clusters(draw.one_of<std::int64_t>({1, 2, 7, 30})),
        key_size(draw.one_of<float>({0, 1e-20f, 0.1f, 1, 1, 1, 10, 1000, 1e18f, 1e30f})),
        inside(draw.one_of<float>({0, 1e-6f, 1e-3f, 0.03f, 0.3f, 1})),
        value_size(draw.one_of<float>({0, 1e-30f, 1, 1, 1, 100, 1e37f})),
        value_inside(draw.one_of<float>({0, 1e-3f, 0.1f, 1})),
        offset(draw.one_of<float>({0, 0, 1, 100})),
        outliers(draw.below(4) == 0),
        mirrored(draw.below(5) == 0) {
    if (mirrored) {
      value_dim = dim;
      value_size = key_size;
    }
    for (std::int64_t c = 0; c < clusters; ++c) {
      keys.push_back(draw.vector(dim, key_size));
      values.push_back(draw.vector(value_dim, value_size));
      for (float& x : keys.back()) x += offset * key_size;
      for (float& x : values.back()) x += 0.01f * value_size * offset;
    }
  }
  Row row(Draw& draw) const {
    const auto c = static_cast<std::size_t>(draw.below(clusters));
    Row row{keys[c], values[c]};
    const float far = outliers && draw.below(50) == 0 ? 30.0f : 1.0f;
    for (float& x : row.key) x += draw.normal(far * inside * key_size);
    for (float& x : row.value)
      x = std::clamp(x + draw.normal(far * value_inside * value_size), -3e38f, 3e38f);
    if (mirrored && draw.below(200) > 0) row.value = row.key;
    return row;
  }
};

struct Trial {
  Draw draw;
  Shape shape;
  Rows rows;
  MemoryIndex index;

  explicit Trial(std::uint64_t seed) : draw(seed), shape(draw), index(shape.dim, shape.value_dim) {
    const std::int64_t n = draw.one_of<std::int64_t>({1, 2, 20, 100, 128, 129, 300, 1000});
    std::vector<std::int64_t> ids;
    std::vector<float> keys, values;
    for (std::int64_t i = 0; i < n; ++i) {
      Row row = !rows.empty() && draw.below(8) == 0 ? rows.begin()->second : shape.row(draw);
      ids.push_back(7 * i - 300);
      keys.insert(keys.end(), row.key.begin(), row.key.end());
      values.insert(values.end(), row.value.begin(), row.value.end());
      rows[ids.back()] = std::move(row);
    }
    MemoryIndex::Options options;
    options.seed = seed;
    options.threads = 1;
    index = MemoryIndex(ids, keys, shape.dim, values, shape.value_dim, options);
  }

  void change() {
    for (std::int64_t i = draw.below(200); i > 0; --i) {
      if (rows.size() > 1 && draw.below(2) == 0) {
        auto gone = std::next(rows.begin(), draw.below(static_cast<std::int64_t>(rows.size())));
        ASSERT_TRUE(index.erase(gone->first));
        rows.erase(gone);
      } else {
        const std::int64_t id = 10'000 + draw.below(1'000'000);
        Row row = shape.row(draw);
        if (rows.contains(id)) continue;
        index.insert(id, row.key, row.value);
        rows[id] = std::move(row);
      }
    }
    ASSERT_EQ(index.size(), static_cast<std::int64_t>(rows.size()));
  }

  // One question, both ways; how many answers saved something.
  int ask() {
    std::vector<float> query = draw.vector(shape.dim, 1);
    if (draw.below(3) == 0)  // like a row
      query =
          std::next(rows.begin(), draw.below(static_cast<std::int64_t>(rows.size())))->second.key;
    float length = 0, key = 0;
    for (const float x : query) length = std::max(length, std::fabs(x));
    for (const float x : rows.begin()->second.key) key = std::max(key, std::fabs(x));
    // scores of about so many nats, and now and then whatever comes
    const float sharp = draw.one_of<float>({0, 1e-3f, 0.1f, 1, 3, 10, 30, 300, 1e4f, 1e30f});
    const float factor = draw.one_of<float>({1, 1, 1, -1}) * sharp;
    float scale =
        length * key > 0 && std::isfinite(length * key) ? factor / (length * key) : factor;
    if (!std::isfinite(scale)) scale = 1e30f;
    IndexQuery options;
    options.threads = 1;
    options.scale = double{scale};
    const float asked = draw.one_of<float>({0, 1e-6f, 1e-4f, 1e-3f, 1e-2f, 0.1f, 1});
    const Exact right = exact(rows, query, scale);
    options.max_error = double{asked} * double{shape.value_size};
    const IndexAnswer answer = index.attend(query, options);
    const double error = error_of(answer, right);
    EXPECT_LE(error, answer.err_bound);
    EXPECT_TRUE(answer.err_bound <= options.max_error || answer.everything());
    options.max_error = double{asked};
    const IndexRanking ranking = index.rank(query, options);
    const double off = error_of(ranking, right);
    // The weights that are compared are float64 themselves, and each is off by half a unit in its last place.
    EXPECT_LE(off, ranking.err_bound + 1e-15);
    EXPECT_TRUE(ranking.err_bound <= options.max_error || ranking.everything());
    EXPECT_EQ(ranking.rows_read, static_cast<std::int64_t>(ranking.best.size()));
    return (answer.everything() ? 0 : 1) + (ranking.everything() ? 0 : 1);
  }
};

// How many questions saved something.
std::int64_t trials(std::uint64_t first, std::int64_t count) {
  std::int64_t saved = 0, asked = 0;
  for (std::uint64_t seed = first; asked < count; ++seed) {
    Trial trial(seed);
    for (int turn = 0; turn < 3; ++turn) {
      for (int i = 0; i < 10; ++i, asked += 2) saved += trial.ask();
      if (::testing::Test::HasFailure()) {
        ADD_FAILURE() << "seed " << seed << ", turn " << turn;
        return saved;
      }
      trial.change();
    }
  }
  return saved;
}

// Rows around directions of length 1, `apart` from them, and as values the directions' numbers.
struct Directions {
  std::int64_t rows, dim;
  std::vector<std::int64_t> ids;
  std::vector<float> keys, values, queries;

  Directions(std::int64_t n, std::int64_t d, std::int64_t count, float apart) : rows(n), dim(d) {
    Draw draw(17);
    const float unit = 1 / std::sqrt(static_cast<float>(dim));
    queries = draw.vector(count * dim, unit);
    keys = draw.vector(rows * dim, unit * apart);
    for (std::int64_t i = 0; i < rows; ++i) {
      ids.push_back(i);
      values.push_back(static_cast<float>(i % count));
      for (std::int64_t k = 0; k < dim; ++k)
        keys[static_cast<std::size_t>(i * dim + k)] +=
            queries[static_cast<std::size_t>(i % count * dim + k)];
    }
  }
  MemoryIndex index(const MemoryIndex::Options& options = {}) const {
    return {ids, keys, dim, values, 1, options};
  }
  std::span<const float> query(std::int64_t i) const {
    return std::span(queries).subspan(static_cast<std::size_t>(i * dim),
                                      static_cast<std::size_t>(dim));
  }
};

TEST(Index, ReadsLittleWhereKeysAreAlike) {
  const Directions d(6000, 48, 60, 0.05f);
  const MemoryIndex index = d.index();
  for (std::int64_t q = 0; q < 60; ++q) {
    const IndexAnswer answer = index.attend(d.query(q), {.max_error = 0.5, .scale = 40});
    EXPECT_NEAR(answer.value[0], static_cast<float>(q), answer.err_bound);
    EXPECT_LE(answer.err_bound, 0.5);
    EXPECT_LT(answer.rows_read, 600);
    const IndexRanking ranking = index.rank(d.query(q), {.max_error = 0.01, .scale = 40});
    EXPECT_EQ(ranking.best.front().id % 60, q);
    EXPECT_LT(ranking.rows_read, 600);
  }
}

// Equal weights, or keys without any likeness: every row counts, and the index says that it saved nothing.
TEST(Index, ReadsEverythingWhereNothingIsSaved) {
  Draw draw(4);
  const std::int64_t rows = 5000, dim = 32;
  std::vector<std::int64_t> ids(static_cast<std::size_t>(rows));
  for (std::int64_t i = 0; i < rows; ++i) ids[static_cast<std::size_t>(i)] = i;
  const std::vector<float> keys = draw.vector(rows * dim, 1), values = draw.vector(rows * dim, 1);
  const MemoryIndex index(ids, keys, dim, values, dim, {});
  const std::vector<float> query = draw.vector(dim, 1);
  std::vector<float> out(dim), lse(1);
  qkv::attention({query.data(), {1, 1, 1, dim}}, {keys.data(), {1, 1, rows, dim}},
                 {values.data(), {1, 1, rows, dim}}, {}, {{out.data(), {1, 1, 1, dim}}, lse});
  const IndexAnswer answer = index.attend(query, {.max_error = 1e-4});
  EXPECT_TRUE(answer.everything());
  EXPECT_EQ(answer.rows_read, rows);
  EXPECT_LT(answer.err_bound, 2e-3);
  for (std::size_t d = 0; d < out.size(); ++d) EXPECT_NEAR(answer.value[d], out[d], 1e-6);
  EXPECT_TRUE(index.rank(query, {.max_error = 0.01, .scale = 0}).everything());
}

TEST(Index, MeansAnswerWhereWeightsAreEqual) {
  const Directions d(3000, 16, 30, 0.05f);
  const IndexAnswer answer = d.index().attend(d.query(0), {.max_error = 0.01, .scale = 0});
  EXPECT_EQ(answer.rows_read, 0);
  EXPECT_NEAR(answer.value[0], 14.5f, answer.err_bound);
}

TEST(Index, TheSameBitsForAnyNumberOfThreads) {
  const Directions d(4000, 24, 300, 0.5f);
  MemoryIndex::Options alone, many;
  alone.threads = 1;
  many.threads = 5;
  double done = 0;
  many.progress = [&](double now) {
    EXPECT_GE(now, done);
    done = now;
  };
  const MemoryIndex a = d.index(alone), b = d.index(many);
  EXPECT_EQ(done, 1);
  EXPECT_EQ(a.blocks(), b.blocks());
  for (std::int64_t q = 0; q < 20; ++q)
    for (const double error : {0.0, 1.0, 20.0}) {
      const IndexAnswer one = a.attend(d.query(q), {.max_error = error, .scale = 8, .threads = 1});
      const IndexAnswer five = b.attend(d.query(q), {.max_error = error, .scale = 8, .threads = 5});
      EXPECT_EQ(one.value, five.value);
      EXPECT_EQ(one.err_bound, five.err_bound);
      EXPECT_EQ(one.rows_read, five.rows_read);
    }
}

// Blocks whose values are their keys keep one copy, until a row comes that differs.
TEST(Index, ValuesThatAreKeys) {
  const Directions d(3000, 24, 30, 0.05f);
  MemoryIndex mirrored(d.ids, d.keys, d.dim, d.keys, d.dim, {});
  std::vector<float> other = d.keys;
  other.back() += 1;
  MemoryIndex apart(d.ids, d.keys, d.dim, other, d.dim, {});
  const IndexQuery options{.max_error = 1e-4, .scale = 30};
  apart.erase(2999);
  mirrored.erase(2999);
  for (std::int64_t q = 0; q < 30; ++q) {
    const IndexAnswer a = mirrored.attend(d.query(q), options),
                      b = apart.attend(d.query(q), options);
    for (std::size_t i = 0; i < a.value.size(); ++i)
      EXPECT_NEAR(a.value[i], b.value[i], a.err_bound + b.err_bound);
  }
  const std::vector<float> key(24, 1), value(24, 5);
  mirrored.insert(2999, key, value);
  for (const float x : mirrored.attend(key, {.max_error = 0, .scale = 1000}).value) EXPECT_EQ(x, 5);
}

TEST(Index, EmptyAndEmptiedAndFilledAgain) {
  MemoryIndex index(2, 1);
  const std::vector<float> query{1, 0}, value{5};
  EXPECT_TRUE(index.attend(query).value.empty());
  EXPECT_TRUE(index.rank(query).best.empty());
  for (int turn = 0; turn < 3; ++turn) {
    for (std::int64_t id = 0; id < 300; ++id) index.insert(id, query, value);
    EXPECT_GE(index.blocks(), 3);  // all alike, and still at most 128 in a block
    EXPECT_EQ(index.attend(query, {.max_error = 1e-3}).value, value);
    for (std::int64_t id = 0; id < 300; ++id) EXPECT_TRUE(index.erase(id));
    EXPECT_FALSE(index.erase(0));
    EXPECT_EQ(index.blocks(), 0);
    EXPECT_TRUE(index.attend(query).value.empty());
  }
  index.insert(7, query, value);
  EXPECT_EQ(index.key(7)[0], 1);
  EXPECT_TRUE(index.key(8).empty());
  EXPECT_EQ(index.ids(), std::vector<std::int64_t>{7});
}

TEST(Index, WrongArgumentsAreNamed) {
  const auto says = [](const auto& call, const std::string& what) {
    try {
      call();
      ADD_FAILURE() << "no error, expected " << what;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  };
  MemoryIndex index(2, 1);
  const std::vector<float> key{1, 2}, value{3}, three{1, 2, 3}, wrong{1, NAN};
  const std::vector<std::int64_t> twice{4, 4};
  const std::vector<float> keys{1, 2, 3, 4}, values{1, 2};
  index.insert(1, key, value);
  says([&] { MemoryIndex(0, 1); }, "keys have 0 dimensions");
  says([&] { MemoryIndex(1, 65537); }, "values have 65537 dimensions");
  says([&] { MemoryIndex(twice, keys, 2, values, 1, {}); }, "two rows have the id 4");
  says([&] { MemoryIndex(twice, key, 2, values, 1, {}); }, "keys hold 2 numbers, expected 2 × 2");
  says([&] { index.insert(1, key, value); }, "there is a row with the id 1");
  says([&] { index.insert(2, three, value); }, "keys hold 3 numbers, expected 1 × 2");
  says([&] { index.insert(2, wrong, value); }, "row 2, column k: number 2 is NaN");
  says([&] { index.attend(three); }, "q has 3 dimensions, keys have 2");
  says([&] { index.attend(value); }, "q has 1 dimensions, keys have 2");
  says([&] { index.attend(wrong); }, "q holds a number that is NaN");
  says([&] { index.attend(key, {.max_error = -1}); }, "max_error is -1");
  says([&] { index.attend(key, {.max_error = NAN}); }, "expected 0 or more");
  says([&] { index.attend(key, {.scale = INFINITY}); }, "scale is not a finite number");
  EXPECT_EQ(index.size(), 1);
}

TEST(Index, TheBoundHoldsOnRandomData) { EXPECT_GT(trials(1, 1500), 150); }

// QKV_INDEX_TRIALS=100000 runs as many.
TEST(IndexSlow, TheBoundHoldsOnRandomData) {
  const char* count = std::getenv("QKV_INDEX_TRIALS");
  const std::int64_t wanted = count != nullptr ? std::stoll(count) : 10'000;
  const std::int64_t saved = trials(100'000, wanted);
  RecordProperty("answers", std::to_string(wanted));
  RecordProperty("that_saved", std::to_string(saved));
  EXPECT_GT(saved, wanted / 10);
}

}  // namespace
}  // namespace qkv
