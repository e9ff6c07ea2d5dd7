// No kernel reads or writes beyond its rows: every array ends (and, in a second round, begins) where a page that nobody may
// touch begins (or ends).
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/rows.h"
#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

enum class Edge { end, begin };

// `count` elements with a forbidden page right after the last one, or right before the first.
template <class T>
class Guarded {
 public:
  Guarded(std::int64_t count, Edge edge, T fill = T{}) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    const std::size_t inner = (bytes + page - 1) / page * page;
    size_ = inner + 2 * page;
    map_ = static_cast<std::byte*>(
        mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED || mprotect(map_ + page, inner, PROT_READ | PROT_WRITE) != 0)
      std::abort();
    data_ = reinterpret_cast<T*>(edge == Edge::begin ? map_ + page : map_ + page + inner - bytes);
    for (std::int64_t i = 0; i < count; ++i) data_[i] = fill;
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(map_, size_); }
  T* data() { return data_; }

 private:
  std::byte* map_;
  std::size_t size_;
  T* data_;
};
using Numbers = Guarded<float>;

// Elements from the first of the first row to the last of the last.
std::int64_t extent(std::int64_t rows, std::int64_t stride, std::int64_t dim) {
  return rows == 0 ? 0 : (rows - 1) * stride + dim;
}

class PageGuard : public EveryIsa {};
QKV_FOR_EVERY_ISA(PageGuard);

TEST_P(PageGuard, Attention) {
  const int p = panel();
  for (const Edge edge : {Edge::end, Edge::begin})
    for (const int dim : {1, 2, 7, 15, 16, 17, 33, 64, 100})
      for (const int count : {1, 2, 3, 5, 12, 13, 31, 64}) {
        const std::int64_t stride = dim + 5;
        Numbers packed(std::int64_t{dim} * p, edge, 0.5f);
        Numbers rows(extent(count, stride, dim), edge, 0.25f);
        Numbers scores(std::int64_t{count} * p, edge);
        Numbers weights(std::int64_t{count} * p, edge);
        Numbers max(p, edge, -kInfinity);
        Numbers sum(p, edge);
        Numbers alpha(p, edge);
        Numbers factor(p, edge, 1);
        Numbers row_factor(count, edge, 1);
        Numbers spread(p, edge);
        Numbers acc(std::int64_t{dim} * p, edge);
        Numbers part_acc(std::int64_t{dim} * p, edge, 1);
        Guarded<std::int32_t> begin(p, edge);
        Guarded<std::int32_t> end(p, edge, count);
        Guarded<LaneBits> hidden(count, edge);
        const SoftmaxState state{max.data(), sum.data(), alpha.data()};
        const SoftmaxState traced{max.data(), sum.data(), alpha.data(), spread.data()};
        const Kernels& k = kernel();
        if (count <= p) k.pack_queries(rows.data(), stride, count, dim, 1, packed.data());
        k.query_dot_keys(packed.data(), rows.data(), stride, count, dim, 0, scores.data(), nullptr);
        k.softcap(scores.data(), count, 10, 1);
        k.scale_rows(scores.data(), count, row_factor.data());
        k.add_alibi(scores.data(), count, 0, begin.data(), 0.5f);
        k.mask_outside(scores.data(), count, 0, begin.data(), end.data());
        ASSERT_TRUE(k.all_finite(rows.data(), stride, count, dim));
        k.normalise(scores.data(), count, max.data(), factor.data(), weights.data());
        k.softmax(scores.data(), count, state);
        k.softmax_traced(weights.data(), count, traced);
        k.weighted_sum_values(scores.data(), rows.data(), stride, count, dim, alpha.data(), 0,
                              acc.data(), false);
        k.weighted_sum_visible_values(scores.data(), rows.data(), stride, count, dim, alpha.data(),
                                      acc.data(), hidden.data());
        k.softmax_gradients(scores.data(), weights.data(), count, max.data(), factor.data());
        k.softcap_gradients(scores.data(), weights.data(), count, 10);
        if (dim % kDimStep == 0 && count <= p)
          for (const int keys : {1, 5, 8, 13}) {
            Numbers tile(extent(keys, p, count), edge, 0.5f);
            Numbers sums(extent(keys, stride, dim), edge);
            k.weighted_sum_queries(tile.data(), keys, rows.data(), stride, count, dim, sums.data(),
                                   stride);
          }
        k.merge_states(dim, state, acc.data(), state, part_acc.data());
        k.merge_states(dim, traced, acc.data(), traced, part_acc.data());
        if (count <= p) {
          Numbers out(extent(count, stride, dim), edge);
          k.write_outputs(acc.data(), factor.data(), count, dim, out.data(), stride);
        }
      }
}

TEST_P(PageGuard, Trace) {
  const int p = panel();
  for (const Edge edge : {Edge::end, Edge::begin})
    for (const int groups : {1, 2, 3, 8, 13, 16}) {
      const int count = groups * kKeyGroup;
      Numbers weights(std::int64_t{count} * p, edge, 0.5f);
      Numbers factor(p, edge, 0.5f);
      Numbers largest(std::int64_t{groups} * p, edge);
      Numbers mass(count, edge);
      kernel().weigh_keys(weights.data(), count, factor.data(), largest.data(), mass.data());
      for (const int slots : {4, 8, 16}) {
        Numbers top(std::int64_t{slots} * p, edge);
        Guarded<std::int32_t> keys(std::int64_t{slots} * p, edge);
        kernel().best_keys(weights.data(), factor.data(), 0, largest.data(), groups, slots,
                           top.data(), keys.data());
        ASSERT_EQ(keys.data()[0], 0);
      }
    }
}

TEST_P(PageGuard, Linear) {
  const int p = panel();
  for (const Edge edge : {Edge::end, Edge::begin})
    for (const int in : {1, 5, 16, 33})
      for (const int out : {1, 7, 8, 9, 31, 32, 33, 64, 130})
        for (const int rows : {1, 2, 4, 7, 12, 13, 20}) {
          const std::int64_t panels = (out + p - 1) / p;
          Numbers packed(panels * in * p, edge, 0.5f);
          Numbers x(extent(rows, in + 3, in), edge, 1);
          Numbers bias(out, edge, 1);
          Numbers y(extent(rows, out + 2, out), edge);
          kernel().linear(packed.data(), bias.data(), x.data(), in + 3, rows, in, out, y.data(),
                          out + 2);
          kernel().linear(packed.data(), nullptr, x.data(), in + 3, rows, in, out, y.data(),
                          out + 2);
        }
}

TEST_P(PageGuard, Conversions) {
  const RowKernels& k = *row_kernels_of(kernel().name);
  for (const Edge edge : {Edge::end, Edge::begin})
    for (const int count : {1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65}) {
      Numbers floats(count, edge, 1);
      Guarded<std::uint16_t> halves(count, edge);
      Guarded<std::int8_t> bytes(count, edge, 3);
      k.narrow_half(floats.data(), count, halves.data());
      k.widen_half(halves.data(), count, floats.data());
      k.narrow_bfloat16(floats.data(), count, halves.data());
      k.widen_bfloat16(halves.data(), count, floats.data());
      ASSERT_EQ(floats.data()[count - 1], 1);
      k.widen_int8(bytes.data(), count, floats.data());
      ASSERT_EQ(floats.data()[count - 1], 3);
    }
}

}  // namespace
}  // namespace qkv::kernels::testing
