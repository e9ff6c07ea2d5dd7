#include "layers/linear.h"

#include <algorithm>

#include "attention/parallel.h"
#include "kernels/half.h"
#include "kernels/kernels.h"

namespace qkv::layers {
namespace {

// Multiply-adds that are worth a thread: 5 million take about 60 µs, and a sleeping helper was at work after 12 µs at best and
// 50 in the median (bench/parallel.cc, two cores, other programs running). Translating sentence by sentence on those two cores
// was no faster with 0.5 or 2 million. Not measured on an idle machine since the pool is our own.
constexpr std::int64_t kWorthAThread = 5'000'000;
// Rows of x that are multiplied with a panel before the next panel comes: they stay in the second-level cache.
constexpr std::int64_t kRowBlock = 384;

// Panels of at most 32 lanes: in wider ones a tile has fewer rows to share a widened half (measured on AVX-512: 165 GFLOP/s
// instead of 146 at 16 rows), and with floats both are as fast.
const kernels::Kernels& linear_kernels() {
  const kernels::Kernels* k = &kernels::kernels();
  while (k->narrow != nullptr && k->panel > 32) k = k->narrow;
  return *k;
}

// Whether every value is a half; if so, `halves` receives them.
bool all_halves(const Buffer& values, HalfBuffer& halves) {
  halves.resize(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (kernels::float_is_half(values[i], &halves[i])) continue;
    HalfBuffer().swap(halves);
    return false;
  }
  return true;
}

}  // namespace

Linear::Linear(std::int64_t in, std::span<const LinearPart> parts) : in_(in) {
  for (const LinearPart& part : parts) out_ += part.out;
  const kernels::Kernels& k = linear_kernels();
  const std::int64_t panels = (out_ + k.panel - 1) / k.panel;
  packed_.resize(static_cast<std::size_t>(panels * in_ * k.panel));
  bias_.resize(static_cast<std::size_t>(panels * k.panel), 0.0f);

  Buffer rows;  // a panel's rows where they come from two parts
  std::size_t part = 0;
  std::int64_t taken = 0;  // outputs of `part` already packed
  for (std::int64_t panel = 0; panel < panels; ++panel) {
    float* packed = packed_.data() + panel * in_ * k.panel;
    const std::int64_t count = std::min<std::int64_t>(k.panel, out_ - panel * k.panel);
    float* bias = bias_.data() + panel * k.panel;
    const float* source = nullptr;
    for (std::int64_t lane = 0; lane < count;) {
      while (taken == parts[part].out) ++part, taken = 0;
      const std::int64_t here = std::min(count - lane, parts[part].out - taken);
      const float* weight = parts[part].weight + taken * in_;
      if (parts[part].bias != nullptr) std::copy_n(parts[part].bias + taken, here, bias + lane);
      if (here == count) {
        source = weight;
      } else {
        source = at_least(rows, k.panel * in_);
        std::copy_n(weight, here * in_, rows.data() + lane * in_);
      }
      lane += here;
      taken += here;
    }
    k.pack_queries(source, in_, static_cast<int>(count), static_cast<int>(in_), 1.0f, packed);
  }
  if (all_halves(packed_, packed_half_)) Buffer().swap(packed_);
}

void Linear::forward(const float* x, std::int64_t x_stride, std::int64_t rows, float* y,
                     std::int64_t y_stride, int threads) const {
  const kernels::Kernels& k = linear_kernels();
  const std::int64_t panels = (out_ + k.panel - 1) / k.panel;
  const std::int64_t work = rows * in_ * out_;
  const std::int64_t useful = std::min(panels, std::max<std::int64_t>(work / kWorthAThread, 1));
  const int workers = thread_count(threads, useful);
  // Each worker takes neighbouring panels, so every weight is read by one core.
  parallel_for(workers, workers, [&](std::int64_t worker) {
    const std::int64_t first = panels * worker / workers;
    const std::int64_t last = panels * (worker + 1) / workers;
    const std::int64_t from = first * k.panel;
    const std::int64_t width = std::min(last * k.panel, out_) - from;
    const auto multiply = [&](const auto& kernel, const auto& packed) {
      for (std::int64_t row = 0; row < rows; row += kRowBlock)
        kernel(packed.data() + from * in_, bias_.data() + from, x + row * x_stride, x_stride,
               static_cast<int>(std::min(kRowBlock, rows - row)), static_cast<int>(in_),
               static_cast<int>(width), y + row * y_stride + from, y_stride);
    };
    if (packed_half_.empty()) {
      multiply(k.linear, packed_);
    } else {
      multiply(k.linear_half, packed_half_);
    }
  });
}

}  // namespace qkv::layers
