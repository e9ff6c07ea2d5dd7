// How the decode kernels go through rows: memory is asked ahead, and query rows are taken a few at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/decode.h"
#include "kernels/vec_math.h"

namespace qkv::kernels {
namespace {

// Asks for lines, a few at a time and in the order in which they lie: of the rows that are worked on, from rows_ahead() on,
// then of as many that come next. Memory answers a core fastest when it is asked all the time.
class Asker {
 public:
  Asker(const StoredRows& rows, int size, const RowsAhead& next) : next_(next) {
    const int bytes = rows.dim * size;
    const int ahead = rows_ahead(bytes);
    next_.count = next.count < rows_ahead(next.bytes) ? next.count : rows_ahead(next.bytes);
    const bool more = next.data != nullptr && ahead < rows.count;
    begin(more ? RowsAhead{static_cast<const std::byte*>(rows.data) + ahead * rows.stride * size,
                           rows.stride * size, rows.count - ahead, bytes}
               : RowsAhead{});
  }
  template <int kLines>
  void ask() {
    if (in_row_ >= kLines * 64) {
      QKV_UNROLL for (int i = 0; i < kLines; ++i) __builtin_prefetch(at_ + i * 64);
      at_ += kLines * 64;
      in_row_ -= kLines * 64;
    } else if (left_ > 0 || next_.count > 0) {
      across_rows(kLines);
    }
  }

 private:
  void begin(const RowsAhead& rows) {
    at_ = rows.data;
    stride_ = rows.stride;
    left_ = rows.count;
    bytes_ = rows.bytes;
    if (stride_ == bytes_ && left_ > 0) {  // one long row
      bytes_ *= left_;
      left_ = 1;
    }
    in_row_ = left_ > 0 ? bytes_ : 0;
  }
  void across_rows(int lines) {
    for (; lines > 0; --lines) {
      if (in_row_ <= 0) {
        if (left_ > 1) {
          at_ += stride_ - (bytes_ - in_row_);
          in_row_ = bytes_;
          --left_;
        } else {
          begin(next_);
          next_.count = 0;
          if (left_ == 0) return;
        }
      }
      __builtin_prefetch(at_);
      at_ += 64;
      in_row_ -= 64;
    }
  }

  RowsAhead next_;
  const std::byte* at_ = nullptr;
  std::int64_t stride_ = 0;
  int left_ = 0;  // rows, this one too
  int bytes_ = 0;
  int in_row_ = 0;  // bytes of this row that are left
};

constexpr int kMaxRowsAtOnce = 8;

// f.template operator()<n>(first row) for groups of n ≤ kMaxRowsAtOnce rows.
template <class F>
inline void by_groups(int rows, const F& f) {
  int r = 0;
  for (; rows - r >= kMaxRowsAtOnce; r += kMaxRowsAtOnce) f.template operator()<kMaxRowsAtOnce>(r);
  switch (rows - r) {
    case 1:
      return f.template operator()<1>(r);
    case 2:
      return f.template operator()<2>(r);
    case 3:
      return f.template operator()<3>(r);
    case 4:
      return f.template operator()<4>(r);
    case 5:
      return f.template operator()<5>(r);
    case 6:
      return f.template operator()<6>(r);
    case 7:
      return f.template operator()<7>(r);
    default:
      return;
  }
}

}  // namespace
}  // namespace qkv::kernels
