// States that add, merge and travel; readers against qkv::attention(); windows against every row of the frame added anew.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace qkv {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

struct Table {
  std::int64_t rows, dim, value_dim;
  std::vector<float> query, keys, values;

  Table(std::int64_t n, std::int64_t d, std::int64_t dv, unsigned seed, float spread = 1)
      : rows(n), dim(d), value_dim(dv), query(d), keys(n * d), values(n * dv) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 1);
    for (float& x : query) x = spread * normal(random);
    for (float& x : keys) x = normal(random);
    for (float& x : values) x = normal(random);
  }
  std::span<const float> key(std::int64_t i) const { return std::span(keys).subspan(i * dim, dim); }
  std::span<const float> value(std::int64_t i) const {
    return std::span(values).subspan(i * value_dim, value_dim);
  }
  MemoryState read(const std::vector<std::int64_t>& order, int top = 0) const {
    MemoryReader::Options options;
    options.value_dim = value_dim;
    options.top = top;
    MemoryReader reader(query, options);
    for (const std::int64_t i : order) reader.add(i, key(i), value(i), std::to_string(i));
    return reader.state();
  }
  std::vector<std::int64_t> all() const {
    std::vector<std::int64_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    return order;
  }
  float largest_value() const {
    float most = 0;
    for (const float x : values) most = std::max(most, std::fabs(x));
    return most;
  }
};

std::vector<double> value_of(const MemoryState& state) {
  std::vector<double> out(state.value_dim());
  state.value(out);
  return out;
}

// How far two ways of adding the same rows can be apart, for values up to 1. Scores have the same bits in every order. With
// u = 2⁻²⁴: a weight is 2^(s − m) with a rounded exponent, |s − m| ≤ 126 where it is not tiny, and 4u for 2^x itself, so it is
// off by at most e = 126·ln 2·u + 4u; a block's sum is a chain of at most 128 fused multiply-adds, 128u more. Sums of blocks are
// float64. Numerator and denominator, and both ways: 2·(2e + 128u); 2⁻¹⁰⁰ stands for what is tiny.
double order_bound(std::int64_t rows) {
  const double u = std::ldexp(1.0, -24);
  return 2 * (2 * (126 * std::log(2.0) * u + 4 * u) + 128 * u) +
         static_cast<double>(rows) * std::ldexp(1.0, -50);
}

TEST(Memory, ReadsWhatAttentionReads) {
  for (const std::int64_t rows : {1, 2, 7, 127, 128, 129, 1000})
    for (const std::int64_t dim : {1, 3, 64, 100}) {
      const Table t(rows, dim, 5, static_cast<unsigned>(rows * 1000 + dim));
      std::vector<float> out(5), lse(1);
      qkv::attention({t.query.data(), {1, 1, 1, dim}}, {t.keys.data(), {1, 1, rows, dim}},
                     {t.values.data(), {1, 1, rows, 5}}, {}, {{out.data(), {1, 1, 1, 5}}, lse});
      const MemoryState state = t.read(t.all());
      const std::vector<double> got = value_of(state);
      for (int d = 0; d < 5; ++d)
        EXPECT_NEAR(got[d], out[d],
                    (order_bound(rows) + 1e-6 * std::sqrt(rows)) * t.largest_value());
      EXPECT_NEAR(state.log_sum_exp(), lse[0], 1e-5);
      EXPECT_EQ(state.rows(), rows);
    }
}

TEST(Memory, AnyOrderAndAnySplitWithinTheBound) {
  std::mt19937 random(5);
  for (const float spread : {0.1f, 1.0f, 20.0f}) {
    const Table t(777, 33, 17, 7, spread);
    const MemoryState whole = t.read(t.all(), 9);
    const std::vector<double> expected = value_of(whole);
    const double bound = order_bound(t.rows) * t.largest_value();
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<std::int64_t> order = t.all();
      std::shuffle(order.begin(), order.end(), random);
      std::vector<MemoryState> parts;
      for (std::size_t at = 0; at < order.size();) {
        const std::size_t end = std::min(order.size(), at + 1 + random() % 400);
        parts.push_back(t.read({order.begin() + at, order.begin() + end}, 9));
        at = end;
      }
      std::shuffle(parts.begin(), parts.end(), random);
      while (parts.size() > 1) {  // a random tree
        const std::size_t into = random() % (parts.size() - 1);
        parts[into].merge(MemoryState::from_bytes(parts.back().bytes()));
        parts.pop_back();
      }
      const std::vector<double> got = value_of(parts[0]);
      for (std::size_t d = 0; d < got.size(); ++d) EXPECT_NEAR(got[d], expected[d], bound);
      EXPECT_NEAR(parts[0].log_sum_exp(), whole.log_sum_exp(), order_bound(t.rows));
      EXPECT_NEAR(parts[0].effective_rows() / whole.effective_rows(), 1, 2 * order_bound(t.rows));
      EXPECT_NEAR(parts[0].entropy(), whole.entropy(), 130 * order_bound(t.rows));
      const auto best = parts[0].best(), whole_best = whole.best();
      ASSERT_EQ(best.size(), 9u);
      for (std::size_t i = 0; i < 9; ++i) {
        EXPECT_EQ(best[i].label, whole_best[i].label);
        EXPECT_EQ(best[i].score, whole_best[i].score);  // the same bits in any order
      }
    }
  }
}

TEST(Memory, ByHand) {
  MemoryState s(1, 2);
  s.add(std::log(1.0), std::vector<float>{10}, "a");
  s.add(std::log(3.0), std::vector<float>{20}, "b");
  s.add(kHidden, std::vector<float>{1e30f}, "c");
  EXPECT_NEAR(value_of(s)[0], 17.5, 1e-14);
  EXPECT_NEAR(s.log_sum_exp(), std::log(4.0), 1e-15);
  EXPECT_NEAR(s.effective_rows(), 1 / (0.25 * 0.25 + 0.75 * 0.75), 1e-14);
  EXPECT_NEAR(s.entropy(), -(0.25 * std::log(0.25) + 0.75 * std::log(0.75)), 1e-14);
  EXPECT_EQ(s.rows(), 3);
  const auto best = s.best();
  ASSERT_EQ(best.size(), 2u);
  EXPECT_EQ(best[0].label, "b");
  EXPECT_NEAR(best[0].weight, 0.75, 1e-15);
}

TEST(Memory, TiesGoToTheLabelThatSortsFirst) {
  for (const bool turned : {false, true}) {
    MemoryState s(0, 2);
    for (const char* label : {"b", "c", "a"})
      s.add(1.0, {}, turned ? std::string(1, static_cast<char>('a' + 'c' - label[0])) : label);
    ASSERT_EQ(s.best().size(), 2u);
    EXPECT_EQ(s.best()[0].label, "a");
    EXPECT_EQ(s.best()[1].label, "b");
  }
}

TEST(Memory, NothingVisible) {
  MemoryState s(2);
  EXPECT_TRUE(s.nothing());
  s.add(kHidden, std::vector<float>{1, 2});
  EXPECT_TRUE(s.nothing());
  EXPECT_EQ(s.rows(), 1);
  MemoryState other(2);
  other.add(-1e300, std::vector<float>{3, 4});
  const std::vector<double> before = value_of(other);
  other.merge(s);
  EXPECT_EQ(value_of(other), before);
  s.merge(other);
  EXPECT_EQ(value_of(s), before);
}

TEST(Memory, ScoresFarApart) {
  MemoryState s(1);
  s.add(-1e308, 5.0);
  s.add(1e308, 7.0);
  s.add(0.0, 9.0);
  EXPECT_EQ(value_of(s)[0], 7);
  EXPECT_EQ(s.log_sum_exp(), 1e308);
  EXPECT_EQ(s.entropy(), 0);
}

TEST(Memory, WrongArguments) {
  EXPECT_THROW(MemoryReader({}, {}), std::invalid_argument);
  const std::vector<float> nan{1, NAN}, two{1, 2}, huge{3e38f, 3e38f};
  EXPECT_THROW(MemoryReader(nan, {}), std::invalid_argument);
  EXPECT_THROW(MemoryReader(two, {.scale = NAN}), std::invalid_argument);
  EXPECT_THROW(MemoryState(-1), std::invalid_argument);
  EXPECT_THROW(MemoryState(1, -1), std::invalid_argument);
  const auto message = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing thrown";
  };
  MemoryReader reader(two, {.value_dim = 1});
  reader.add(1, two, std::vector<float>{1});
  EXPECT_EQ(message([&] {
              reader.add(2, std::vector<float>{1, 2, 3}, std::vector<float>{1});
            }),
            "row 2, column k: 3 dimensions, q has 2");
  EXPECT_EQ(message([&] { reader.add(2, two, two); }),
            "row 2, column v: 2 dimensions, the rows before have 1");
  reader.add(7, nan, std::vector<float>{1});
  EXPECT_EQ(message([&] { reader.state(); }), "row 7, column k: number 2 is NaN");
  MemoryReader large(huge, {});
  large.add(3, huge, {});
  EXPECT_EQ(message([&] { large.state(); }), "row 3, column k: scale·q·k is too large for float32");
  MemoryState s(1);
  EXPECT_THROW(s.add(NAN, 1.0), std::invalid_argument);
  EXPECT_THROW(s.add(INFINITY, 1.0), std::invalid_argument);
  EXPECT_EQ(s.rows(), 0);
  EXPECT_THROW(s.merge(MemoryState(2)), std::invalid_argument);
  EXPECT_THROW(s.merge(MemoryState(1, 1)), std::invalid_argument);
  EXPECT_THROW(s.merge(MemoryState(1, 0, 9)), std::invalid_argument);
}

TEST(MemoryBytes, EveryCutAndEveryFlippedBitIsRefused) {
  const Table t(40, 4, 3, 3);
  const std::string bytes = t.read(t.all(), 3).bytes();
  EXPECT_EQ(MemoryState::from_bytes(bytes).bytes(), bytes);
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_THROW(MemoryState::from_bytes(bytes.substr(0, length)), std::invalid_argument);
  EXPECT_THROW(MemoryState::from_bytes(bytes + '\0'), std::invalid_argument);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
    EXPECT_THROW(MemoryState::from_bytes(changed), std::invalid_argument) << bit;
  }
}

// Bytes with a checksum that fits, but numbers that no rows add up to.
TEST(MemoryBytes, RefusesWhatNoRowsAddUpTo) {
  const auto sealed = [](std::string bytes) {
    bytes.resize(bytes.size() - 8);
    std::uint64_t hash = 14695981039346656037u;
    for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    return bytes.append(reinterpret_cast<const char*>(&hash), 8);
  };
  const Table t(40, 4, 3, 3);
  const std::string bytes = t.read(t.all(), 3).bytes();
  ASSERT_EQ(sealed(bytes), bytes);
  std::mt19937 random(1);
  for (int trial = 0; trial < 20000; ++trial) {  // whatever it takes, it does not crash
    std::string changed = bytes;
    for (int i = 0; i < 4; ++i) changed[random() % changed.size()] = static_cast<char>(random());
    try {
      const MemoryState state = MemoryState::from_bytes(sealed(changed));
      EXPECT_EQ(state.bytes(), sealed(changed));
      state.best();
    } catch (const std::invalid_argument&) {
    }
  }
  const std::size_t max_at = 4 + 4 + 8 + 4 + 4 + 8;
  for (const double wrong : {double{NAN}, double{INFINITY}, kHidden}) {
    std::string changed = bytes;
    std::memcpy(changed.data() + max_at, &wrong, sizeof wrong);
    EXPECT_THROW(MemoryState::from_bytes(sealed(changed)), std::invalid_argument);
  }
  const double too_much = 40.5;  // of 40 rows, none of which weighs more than 1
  std::string heavy = bytes;
  std::memcpy(heavy.data() + max_at + sizeof too_much, &too_much, sizeof too_much);
  EXPECT_THROW(MemoryState::from_bytes(sealed(heavy)), std::invalid_argument);
  // As many rows as can be counted, and one more.
  std::string many = bytes;
  const auto most = std::numeric_limits<std::int64_t>::max();
  std::memcpy(many.data() + max_at - sizeof most, &most, sizeof most);
  MemoryState state = MemoryState::from_bytes(sealed(many));
  EXPECT_THROW(state.merge(MemoryState::from_bytes(bytes)), std::invalid_argument);
  EXPECT_EQ(state.rows(), most);
}

TEST(MemoryWindow, EveryFrameAsIfItWereAlone) {
  std::mt19937 random(11);
  std::normal_distribution<double> normal(0, 30);
  for (const int width : {1, 2, 3, 10, 64}) {
    std::vector<double> scores, values;
    MemoryWindow window(MemoryState(1), 1 << 20);
    for (int i = 0; i < 300; ++i) {
      scores.push_back(i % 7 == 3 ? kHidden : normal(random));
      values.push_back(normal(random));
      window.add(scores.back(), values.back());
      if (i >= width) window.pop();
      MemoryState frame(1);
      for (int j = std::max(0, i - width + 1); j <= i; ++j) frame.add(scores[j], values[j]);
      const MemoryState total = window.total();
      ASSERT_EQ(total.nothing(), frame.nothing());
      EXPECT_EQ(total.rows(), frame.rows());
      if (!frame.nothing()) {
        EXPECT_NEAR(value_of(total)[0], value_of(frame)[0], 1e-11);
      }
    }
  }
}

TEST(MemoryWindow, ARowThatLeavesTakesAllOfItAlong) {
  MemoryWindow window(MemoryState(1), 1 << 10);
  window.add(700, 1e30);  // subtraction would leave nothing of what follows
  window.add(0, 3.0);
  window.pop();
  EXPECT_EQ(value_of(window.total())[0], 3);
}

TEST(MemoryWindow, SaysWhenRowsWereNotKept) {
  MemoryWindow window(MemoryState(1), 40);
  for (int i = 0; i < 3; ++i) window.add(i, i);
  EXPECT_EQ(window.total().rows(), 3);
  EXPECT_THROW(window.pop(), std::length_error);
}

TEST(MemoryWindow, OfAReader) {
  const Table t(300, 8, 3, 2);
  MemoryReader reader(t.query, {.value_dim = 3, .keep = 1 << 20});
  for (std::int64_t i = 0; i < t.rows; ++i) {
    reader.add(i, t.key(i), t.value(i));
    if (i >= 150) reader.pop();
    if (i % 50 != 49) continue;
    std::vector<std::int64_t> frame;
    for (std::int64_t j = std::max<std::int64_t>(0, i - 149); j <= i; ++j) frame.push_back(j);
    const std::vector<double> expected = value_of(t.read(frame)), got = value_of(reader.state());
    for (int d = 0; d < 3; ++d)
      EXPECT_NEAR(got[d], expected[d], order_bound(150) * t.largest_value());
  }
}

}  // namespace
}  // namespace qkv
