#include "kernels/vec_avx512_bf16.h"
// the vectors come first
#include "kernels/bf16_dots.h"
#include "kernels/decode_ahead.h"

namespace qkv::kernels {
namespace {

inline const std::uint16_t* row_of(const StoredRows& rows, int r) {
  return static_cast<const std::uint16_t*>(rows.data) + r * rows.stride;
}

// As dot_blocks of decode_tile.h: a turned unit is a pair.
template <int kRows, int kBlocks>
inline void dot_blocks(const std::uint32_t* queries, const StoredRows& keys, int first,
                       Asker& asker, float factor, float* scores) {
  const int pairs = (keys.dim + 1) / 2;
  Vec sum[kBlocks][kRows];
  QKV_UNROLL for (int b = 0; b < kBlocks; ++b) {
    QKV_UNROLL for (int r = 0; r < kRows; ++r) sum[b][r] = set1(0.0f);
  }
  for (int pair = 0; pair < pairs; pair += kLanes) {
    float units[kBlocks][kLanes][kLanes];
    for (int b = 0; b < kBlocks; ++b) {
      const int begin = first + b * kLanes;
      const int last = keys.count - 1 - begin;  // lanes beyond repeat this key
      const std::uint16_t* block = row_of(keys, begin) + 2 * pair;
      Vec turned[kLanes];
      if (2 * (pair + kLanes) <= keys.dim && last >= kLanes - 1) {
        QKV_UNROLL for (int i = 0; i < kLanes; ++i) turned[i] = load_bits(block + i * keys.stride);
      } else {
        const int rest = keys.dim - 2 * pair;
        const int bytes = 2 * (rest < 2 * kLanes ? rest : 2 * kLanes);
        for (int i = 0; i < kLanes; ++i)
          turned[i] = load_first_bits(block + (i < last ? i : last) * keys.stride, bytes);
      }
      transpose(turned);
      QKV_UNROLL for (int i = 0; i < kLanes; ++i) store(units[b][i], turned[i]);
    }
    const int whole = pairs - pair < kLanes ? pairs - pair : kLanes;
    for (int i = 0; i < whole; ++i) {
      asker.ask<kBlocks>();
      QKV_UNROLL for (int r = 0; r < kRows; ++r) {
        const Vec query = set1_pair(queries[r * pairs + pair + i]);
        QKV_UNROLL for (int b = 0; b < kBlocks; ++b) sum[b][r] =
            dot_pairs(sum[b][r], load(units[b][i]), query);
      }
    }
  }
  QKV_UNROLL for (int b = 0; b < kBlocks; ++b) {
    QKV_UNROLL for (int r = 0; r < kRows; ++r)
        store(scores + r * kScoreStride + first + b * kLanes, mul(set1(factor), sum[b][r]));
  }
}

void query_dot_keys(const std::uint32_t* queries, int rows, const StoredRows& keys,
                    const RowsAhead& next, float factor, float* scores) {
  Asker asker(keys, sizeof(std::uint16_t), next);
  by_groups(rows, [&]<int kRows>(int r) {
    constexpr int kBlocks = kRows == 1 ? 8 : kRows == 2 ? 4 : kRows <= 4 ? 2 : 1;
    const std::uint32_t* query = queries + std::int64_t{r} * ((keys.dim + 1) / 2);
    float* to = scores + std::int64_t{r} * kScoreStride;
    int first = 0;
    for (; first + (kBlocks - 1) * kLanes < keys.count; first += kBlocks * kLanes)
      dot_blocks<kRows, kBlocks>(query, keys, first, asker, factor, to);
    for (; first < keys.count; first += kLanes)
      dot_blocks<kRows, 1>(query, keys, first, asker, factor, to);
  });
}

void narrow_weights(const float* scores, int rows, int key_count, std::uint16_t* narrow) {
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < key_count; k += kLanes)
      store_rounded_bfloat16(narrow + r * kScoreStride + k, load(scores + r * kScoreStride + k));
}

// acc[r][d…] for kRows rows and kTwos times 32 dims (the last of them up to `dims`).
template <int kRows, int kTwos>
inline void value_tile(const std::uint16_t* weights, const StoredRows& values, int d, int dims,
                       Asker& asker, const float* alpha, float* acc) {
  const std::int64_t stride = acc_stride(values.dim);
  const int last_dims = dims - (kTwos - 1) * 2 * kLanes;
  const auto has_second = [&](int t) { return t + 1 < kTwos || last_dims > kLanes; };
  Vec sum[kRows][kTwos][2];
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int t = 0; t < kTwos; ++t) {
      const float* from = acc + r * stride + d + t * 2 * kLanes;
      sum[r][t][0] = mul(load(from), set1(alpha[r]));
      sum[r][t][1] = has_second(t) ? mul(load(from + kLanes), set1(alpha[r])) : set1(0.0f);
      to_interleaved(sum[r][t]);
    }
  }
  const auto row = [&](int k, int t) {
    const std::uint16_t* from = row_of(values, k) + d + t * 2 * kLanes;
    return t + 1 < kTwos || last_dims == 2 * kLanes ? load_bits(from)
                                                    : load_first_bits(from, 2 * last_dims);
  };
  for (int k = 0; k < values.count; k += 2) {
    asker.ask<2 * kTwos>();
    Vec pairs[kTwos][2];
    QKV_UNROLL for (int t = 0; t < kTwos; ++t)
        interleave(row(k, t), k + 1 < values.count ? row(k + 1, t) : set1(0.0f), pairs[t]);
    QKV_UNROLL for (int r = 0; r < kRows; ++r) {
      std::uint32_t pair;
      __builtin_memcpy(&pair, weights + r * kScoreStride + k, sizeof pair);
      const Vec weight = set1_pair(pair);
      QKV_UNROLL for (int t = 0; t < kTwos; ++t) {
        sum[r][t][0] = dot_pairs(sum[r][t][0], pairs[t][0], weight);
        sum[r][t][1] = dot_pairs(sum[r][t][1], pairs[t][1], weight);
      }
    }
  }
  QKV_UNROLL for (int r = 0; r < kRows; ++r) {
    QKV_UNROLL for (int t = 0; t < kTwos; ++t) {
      float* to = acc + r * stride + d + t * 2 * kLanes;
      from_interleaved(sum[r][t]);
      store(to, sum[r][t][0]);
      if (has_second(t)) store(to + kLanes, sum[r][t][1]);
    }
  }
}

void weighted_sum_values(const std::uint16_t* weights, int rows, const StoredRows& values,
                         const RowsAhead& next, const float* alpha, float* acc) {
  Asker asker(values, sizeof(std::uint16_t), next);
  by_groups(rows, [&]<int kRows>(int r) {
    constexpr int kTwos = kRows <= 2 ? 4 : kRows <= 4 ? 2 : 1;
    constexpr int kDims = kTwos * 2 * kLanes;
    const std::uint16_t* w = weights + std::int64_t{r} * kScoreStride;
    float* to = acc + r * acc_stride(values.dim);
    int d = 0;
    for (; d + kDims <= values.dim; d += kDims)
      value_tile<kRows, kTwos>(w, values, d, kDims, asker, alpha + r, to);
    for (; d < values.dim; d += 2 * kLanes)
      value_tile<kRows, 1>(w, values, d, values.dim - d < 2 * kLanes ? values.dim - d : 2 * kLanes,
                           asker, alpha + r, to);
  });
}

}  // namespace

extern const Bf16DotKernels avx512_bf16_dot_kernels;
const Bf16DotKernels avx512_bf16_dot_kernels = {.name = "avx512_bf16",
                                                .query_dot_keys = query_dot_keys,
                                                .narrow_weights = narrow_weights,
                                                .weighted_sum_values = weighted_sum_values};
}  // namespace qkv::kernels
