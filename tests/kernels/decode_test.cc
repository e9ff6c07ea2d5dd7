// The decode kernels: bit for bit those of a panel over widened numbers, near their scalar twins, for every type and instruction
// set.
#include "kernels/decode.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/half.h"
#include "kernels/rows.h"
#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

constexpr int kKeyCounts[] = {1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128};
constexpr int kRowCounts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17};

class Decode : public EveryIsa {
 protected:
  const DecodeKernels& decode() const { return *decode_kernels_of(kernel().name); }
  static const DecodeKernels& twin() { return *decode_kernels_of("scalar"); }
};
QKV_FOR_EVERY_ISA(Decode);

// Rows of one type, one element after the allocation's begin, with a gap between them; and the same numbers as floats.
struct Stored {
  std::vector<std::uint8_t> bytes;
  Floats floats;
  StoredRows rows;

  Stored(Element element, int count, int dim, Random& random)
      : bytes(), floats(std::int64_t{count} * dim) {
    const std::int64_t stride = dim + 3;
    const std::size_t size = element == Element::f32 ? 4 : element == Element::i8 ? 1 : 2;
    bytes.resize(static_cast<std::size_t>((count - 1) * stride + dim + 1) * size, 0xff);
    std::uint8_t* data = bytes.data() + size;
    for (int r = 0; r < count; ++r)
      for (int d = 0; d < dim; ++d) {
        std::uint8_t* at = data + static_cast<std::size_t>(r * stride + d) * size;
        float& number = floats[std::int64_t{r} * dim + d];
        number = random.uniform(-2, 2);
        if (element == Element::f32) std::memcpy(at, &number, 4);
        if (element == Element::i8) {
          const auto narrow = static_cast<std::int8_t>(random.between(-128, 127));
          std::memcpy(at, &narrow, 1);
          number = narrow;
        }
        if (element == Element::f16 || element == Element::bf16) {
          const std::uint16_t narrow =
              element == Element::f16 ? float_to_half(number) : float_to_bfloat16(number);
          std::memcpy(at, &narrow, 2);
          number = element == Element::f16 ? half_to_float(narrow) : bfloat16_to_float(narrow);
        }
      }
    // the last row ends where the memory does
    rows = {data, stride, count, dim};
  }
};

// f(element, keys, dim, rows) for a grid of awkward sizes.
template <class F>
void for_sizes(const F& f) {
  for (int e = 0; e < kElements; ++e)
    for (const int dim : kDims)
      for (const int keys : kKeyCounts)
        for (const int rows : kRowCounts)
          // every dim and every key count with every row count, not all three together
          if (keys == 33 || dim == 33 || (rows == 4 && dim < 200))
            f(static_cast<Element>(e), keys, dim, rows);
}

// Panels hold `panel` rows: row r is lane r % panel of panel r / panel.
TEST_P(Decode, ScoresAndSumsHaveTheBitsOfPanels) {
  Random random(1);
  for_sizes([&](Element element, int keys, int dim, int rows) {
    if (HasFatalFailure()) return;
    SCOPED_TRACE("element " + std::to_string(static_cast<int>(element)) + ", keys " +
                 std::to_string(keys) + ", dim " + std::to_string(dim) + ", rows " +
                 std::to_string(rows));
    const ElementKernels& of = decode().of[static_cast<int>(element)];
    const Floats queries(std::int64_t{rows} * dim, random, -1, 1);
    const Stored key(element, keys, dim, random), value(element, keys, dim, random);
    const std::int64_t stride = acc_stride(dim);
    std::vector<float> scores(static_cast<std::size_t>(rows * kScoreStride), kNaN);
    std::vector<float> acc(static_cast<std::size_t>(rows * stride), 0.5f);
    std::vector<float> max(static_cast<std::size_t>(rows), -kInfinity), sum(max.size(), 0),
        alpha(max.size());
    const RowsAhead next{static_cast<const std::byte*>(value.rows.data), 64, keys, 100};
    of.query_dot_keys(queries.data(), rows, key.rows, next, scores.data());
    const std::vector<float> dots = scores;
    decode().softmax(scores.data(), rows, keys, {max.data(), sum.data(), alpha.data()});
    of.weighted_sum_values(scores.data(), rows, value.rows, {}, alpha.data(), acc.data());

    const int p = panel();
    std::vector<float> packed(static_cast<std::size_t>(p * dim)),
        lane_scores(static_cast<std::size_t>(p * kMaxChunk)),
        lane_acc(static_cast<std::size_t>(p * dim)), lane_max(static_cast<std::size_t>(p)),
        lane_sum(lane_max.size()), lane_alpha(lane_max.size());
    for (int first = 0; first < rows; first += p) {
      const int count = std::min(p, rows - first);
      std::fill(lane_max.begin(), lane_max.end(), -kInfinity);
      std::fill(lane_sum.begin(), lane_sum.end(), 0.0f);
      std::fill(lane_acc.begin(), lane_acc.end(), 0.5f);
      kernel().pack_queries(queries.data() + std::int64_t{first} * dim, dim, count, dim, 1,
                            packed.data());
      kernel().query_dot_keys(packed.data(), key.floats.data(), dim, keys, dim, 0,
                              lane_scores.data(), nullptr);
      for (int r = 0; r < count; ++r)
        for (int k = 0; k < keys; ++k)
          ASSERT_EQ(bits_of(dots[static_cast<std::size_t>((first + r) * kScoreStride + k)]),
                    bits_of(lane_scores[static_cast<std::size_t>(k * p + r)]));
      kernel().softmax(lane_scores.data(), keys,
                       {lane_max.data(), lane_sum.data(), lane_alpha.data()});
      kernel().weighted_sum_values(lane_scores.data(), value.floats.data(), dim, keys, dim,
                                   lane_alpha.data(), 0, lane_acc.data(), false);
      for (int r = 0; r < count; ++r) {
        const auto row = static_cast<std::size_t>(first + r);
        const auto lane = static_cast<std::size_t>(r);
        ASSERT_EQ(bits_of(max[row]), bits_of(lane_max[lane]));
        ASSERT_EQ(bits_of(sum[row]), bits_of(lane_sum[lane]));
        ASSERT_EQ(bits_of(alpha[row]), bits_of(lane_alpha[lane]));
        for (int d = 0; d < dim; ++d)
          ASSERT_EQ(
              bits_of(acc[row * static_cast<std::size_t>(stride) + static_cast<std::size_t>(d)]),
              bits_of(lane_acc[static_cast<std::size_t>(d * p + r)]));
      }
    }
  });
}

// Two chains of n products of numbers up to `most`, in different orders.
TEST_P(Decode, ScoresAndSumsAreNearTheirTwins) {
  Random random(2);
  for_sizes([&](Element element, int keys, int dim, int rows) {
    if (HasFatalFailure()) return;
    const auto e = static_cast<int>(element);
    const double most = element == Element::i8 ? 128 : 2;
    const Floats queries(std::int64_t{rows} * dim, random, -1, 1);
    const Stored stored(element, keys, dim, random);
    const auto score_count = static_cast<std::size_t>(rows * kScoreStride);
    std::vector<float> got(score_count), expected(score_count);
    decode().of[e].query_dot_keys(queries.data(), rows, stored.rows, {}, got.data());
    twin().of[e].query_dot_keys(queries.data(), rows, stored.rows, {}, expected.data());
    for (int r = 0; r < rows; ++r)
      for (int k = 0; k < keys; ++k) {
        const auto i = static_cast<std::size_t>(r * kScoreStride + k);
        ASSERT_NEAR(got[i], expected[i], 2 * gamma(dim + 1) * dim * most);
      }
    for (float& weight : got) weight = random.uniform(0, 1);
    const std::vector<float> alpha(static_cast<std::size_t>(rows), 0.5f);
    const auto acc_count = static_cast<std::size_t>(rows * acc_stride(dim));
    std::vector<float> sums(acc_count, 1), twin_sums = sums, listed_sums = sums;
    decode().of[e].weighted_sum_values(got.data(), rows, stored.rows, {}, alpha.data(),
                                       sums.data());
    twin().of[e].weighted_sum_values(got.data(), rows, stored.rows, {}, alpha.data(),
                                     twin_sums.data());
    // every key listed: the bits of all together
    std::vector<std::int32_t> listed;
    for (int k = 0; k < keys; ++k) listed.push_back(k);
    for (int r = 0; r < rows; ++r) {
      const std::int64_t row = r * acc_stride(dim);
      decode().of[e].weighted_sum_listed_values(got.data() + r * kScoreStride, listed.data(), keys,
                                                stored.rows, 0.5f, listed_sums.data() + row);
      for (int d = 0; d < dim; ++d) {
        const auto i = static_cast<std::size_t>(row + d);
        ASSERT_NEAR(sums[i], twin_sums[i], 2 * gamma(keys + 2) * (keys * most + 1));
        ASSERT_EQ(bits_of(sums[i]), bits_of(listed_sums[i]));
      }
    }
  });
}

TEST_P(Decode, ListedValuesAlone) {
  Random random(3);
  for (int e = 0; e < kElements; ++e) {
    const Stored stored(static_cast<Element>(e), 9, 37, random);
    const std::int32_t listed[] = {1, 4, 8};
    const float weights[] = {0.5f, 0.25f, 2};
    std::vector<float> acc(static_cast<std::size_t>(acc_stride(37)), 1);
    decode().of[e].weighted_sum_listed_values(weights, listed, 3, stored.rows, 0.5f, acc.data());
    for (int d = 0; d < 37; ++d) {
      const double exact = 0.5 + 0.5 * stored.floats[37 + d] + 0.25 * stored.floats[4 * 37 + d] +
                           2.0 * stored.floats[8 * 37 + d];
      ASSERT_NEAR(acc[static_cast<std::size_t>(d)], exact, 1e-6 * 300);
    }
  }
}

TEST_P(Decode, AllFiniteSeesEveryElement) {
  Random random(4);
  for (int e = 0; e < kElements; ++e)
    for (const int dim : {1, 7, 16, 33, 64, 100}) {
      const Stored stored(static_cast<Element>(e), 5, dim, random);
      ASSERT_TRUE(decode().of[e].all_finite(stored.rows));
      if (static_cast<Element>(e) == Element::i8) continue;
      for (const int r : {0, 4})
        for (int d = 0; d < dim; ++d) {
          Stored spoilt = stored;
          spoilt.rows.data = spoilt.bytes.data() + (e == 0 ? 4 : 2);
          std::uint8_t* at = spoilt.bytes.data() + (r * (dim + 3) + d + 1) * (e == 0 ? 4 : 2);
          const std::uint16_t narrow = e == 1 ? (d % 2 ? 0x7c00 : 0xfe00) : d % 2 ? 0x7f80 : 0xffc0;
          if (e == 0) {
            const float wide = d % 2 ? kInfinity : kNaN;
            std::memcpy(at, &wide, 4);
          } else {
            std::memcpy(at, &narrow, 2);
          }
          ASSERT_FALSE(decode().of[e].all_finite(spoilt.rows)) << "row " << r << ", dim " << d;
        }
    }
}

// scale, softcap, add_alibi and merge_states of a row, with what a trace needs: the bits of a panel's lane.
TEST_P(Decode, OptionsHaveTheBitsOfPanels) {
  Random random(5);
  const int p = panel();
  for (const int keys : kKeyCounts) {
    std::vector<float> row(kScoreStride), lanes(static_cast<std::size_t>(keys * p));
    const Floats factor(keys, random, -2, 2);
    for (int k = 0; k < keys; ++k) row[static_cast<std::size_t>(k)] = random.uniform(-50, 50);
    if (keys > 2) row[1] = kNaN, row[2] = -kInfinity;
    for (int i = 0; i < keys * p; ++i)
      lanes[static_cast<std::size_t>(i)] = row[static_cast<std::size_t>(i / p)];
    const std::vector<std::int32_t> position(static_cast<std::size_t>(p), 1'000'050);
    const auto expect_same = [&](const char* what) {
      for (int k = 0; k < keys; ++k) {
        const float a = row[static_cast<std::size_t>(k)],
                    b = lanes[static_cast<std::size_t>(k * p)];
        ASSERT_TRUE(bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b))) << what;
      }
    };
    decode().scale(row.data(), keys, factor.data());
    kernel().scale_rows(lanes.data(), keys, factor.data());
    expect_same("scale");
    decode().softcap(row.data(), keys, 20, 1.5f);
    kernel().softcap(lanes.data(), keys, 20, 1.5f);
    expect_same("softcap");
    decode().add_alibi(row.data(), keys, 1'000'000, 1'000'050, 0.3f);
    kernel().add_alibi(lanes.data(), keys, 1'000'000, position.data(), 0.3f);
    expect_same("add_alibi");
  }
  for (const int dim : kDims)
    for (const float part_max : {-kInfinity, -3.0f, 5.0f, kInfinity}) {
      std::vector<float> total(static_cast<std::size_t>(acc_stride(dim))), part(total.size());
      std::vector<float> total_lanes(static_cast<std::size_t>(dim * p)),
          part_lanes(total_lanes.size());
      for (int d = 0; d < dim; ++d) {
        const auto i = static_cast<std::size_t>(d);
        total[i] = random.uniform(-1, 1);
        part[i] = part_max == -kInfinity ? 0.0f : random.uniform(-1, 1);
        std::fill_n(total_lanes.begin() + d * p, p, total[i]);
        std::fill_n(part_lanes.begin() + d * p, p, part[i]);
      }
      float max = 1.5f, sum = 3.25f;
      float max_of_part = part_max, sum_of_part = part_max == -kInfinity ? 0.0f : 7.5f;
      float spread = -2.25f, spread_of_part = part_max == -kInfinity ? 0.0f : -4.5f;
      const auto lanes = static_cast<std::size_t>(p);
      std::vector<float> lane_max(lanes, max), lane_sum(lanes, sum),
          lane_part_max(lanes, max_of_part), lane_part_sum(lanes, sum_of_part),
          lane_spread(lanes, spread), lane_part_spread(lanes, spread_of_part);
      decode().merge_states(dim, {&max, &sum, nullptr, &spread}, total.data(),
                            {&max_of_part, &sum_of_part, nullptr, &spread_of_part}, part.data());
      kernel().merge_states(
          dim, {lane_max.data(), lane_sum.data(), nullptr, lane_spread.data()}, total_lanes.data(),
          {lane_part_max.data(), lane_part_sum.data(), nullptr, lane_part_spread.data()},
          part_lanes.data());
      const auto same = [](float a, float b) {
        return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b));
      };
      ASSERT_TRUE(same(max, lane_max[0]));
      ASSERT_TRUE(same(sum, lane_sum[0]));
      ASSERT_TRUE(same(spread, lane_spread[0]));
      for (int d = 0; d < dim; ++d)
        ASSERT_TRUE(
            same(total[static_cast<std::size_t>(d)], total_lanes[static_cast<std::size_t>(d * p)]));
    }
}

// Chunks one after the other, with NaN, −inf and +inf among the scores.
TEST_P(Decode, SoftmaxHasTheBitsOfPanels) {
  Random random(6);
  const int p = panel();
  const auto lanes = static_cast<std::size_t>(p);
  for (const int rows : kRowCounts) {
    std::vector<float> max(static_cast<std::size_t>(rows), -kInfinity), sum(max.size(), 0),
        alpha(max.size()), spread(max.size(), 0), plain_max = max, plain_sum = sum;
    std::vector<std::vector<float>> lane_max(max.size(), std::vector<float>(lanes, -kInfinity)),
        lane_sum(max.size(), std::vector<float>(lanes, 0)), lane_alpha = lane_sum,
                                                            lane_spread = lane_sum;
    for (const int keys : kKeyCounts) {
      std::vector<float> scores(static_cast<std::size_t>(rows * kScoreStride), kNaN);
      for (int r = 0; r < rows; ++r) {
        std::vector<float> column(static_cast<std::size_t>(keys * p));
        for (int k = 0; k < keys; ++k) {
          float score = random.uniform(-40, 40);
          if (r % 4 == 1 || random.chance(0.2)) score = -kInfinity;
          if (r == 2 && k == 5) score = kNaN;
          if (r == 3 && keys == 63 && k == 7) score = kInfinity;
          scores[static_cast<std::size_t>(r * kScoreStride + k)] = score;
          std::fill_n(column.begin() + k * p, p, score);
        }
        const auto i = static_cast<std::size_t>(r);
        kernel().softmax_traced(
            column.data(), keys,
            {lane_max[i].data(), lane_sum[i].data(), lane_alpha[i].data(), lane_spread[i].data()});
        lane_alpha[i].assign(column.begin(), column.end());
      }
      std::vector<float> plain = scores;
      decode().softmax(plain.data(), rows, keys,
                       {plain_max.data(), plain_sum.data(), alpha.data()});
      decode().softmax(scores.data(), rows, keys,
                       {max.data(), sum.data(), alpha.data(), spread.data()});
      const auto same = [](float a, float b) {
        return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b));
      };
      for (int r = 0; r < rows; ++r) {
        const auto i = static_cast<std::size_t>(r);
        ASSERT_TRUE(same(max[i], lane_max[i][0]));
        ASSERT_TRUE(same(sum[i], lane_sum[i][0]));
        ASSERT_TRUE(same(spread[i], lane_spread[i][0]));
        ASSERT_TRUE(same(plain_max[i], max[i]));
        ASSERT_TRUE(same(plain_sum[i], sum[i]));
        for (int k = 0; k < keys; ++k) {
          const auto at = static_cast<std::size_t>(r * kScoreStride + k);
          ASSERT_TRUE(same(scores[at], lane_alpha[i][static_cast<std::size_t>(k * p)]));
          ASSERT_TRUE(same(plain[at], scores[at]));
        }
        lane_alpha[i].assign(lanes, 0);
      }
    }
  }
}

}  // namespace
}  // namespace qkv::kernels::testing
