// Rows of a tensor as the kernels read them: floats, one row every `stride`.
#pragma once

#include <cstdint>
#include <memory>

#include "attention/problem.h"

namespace qkv {

// Rows [range.begin, range.end) of one head; row r lies at data + (r − range.begin)·stride.
struct FloatRows {
  const float* data = nullptr;
  std::int64_t stride = 0;
  Range range;

  const float* row(std::int64_t r) const { return data + (r - range.begin) * stride; }
};

// Where they lie if they are floats a fixed stride apart; else widened or gathered into scratch, which has room for
// (range.end − range.begin)·dim floats. int8 rows come without their scale.
FloatRows float_rows(const Rows& rows, std::int64_t b, std::int64_t h, Range range, int dim,
                     float* scratch);

// Whether float_rows(…) may need its scratch.
inline bool is_in_place(const Rows& rows) {
  return rows.dtype == DType::f32 && rows.table == nullptr;
}

// scale[r] of int8 rows [range.begin, range.end).
void row_scales(const Rows& scales, std::int64_t b, std::int64_t h, Range range, float* scale);

// Writes dim floats to row (b, h, t) in its type, rounded to nearest even.
void store_row(const float* from, int dim, const MutableRows& rows, std::int64_t b, std::int64_t h,
               std::int64_t t);

// Memory for one thread's work, kept between calls and grown as needed.
class Scratch {
 public:
  // At least `count` floats, aligned for every instruction set; what was there before is gone.
  float* floats(std::size_t count);

 private:
  struct Free {
    void operator()(float* p) const;
  };
  std::unique_ptr<float, Free> data_;
  std::size_t size_ = 0;
};

// This thread's; each use has memory of its own.
enum class ScratchUse { work, rows, strip, values, count };
Scratch& thread_scratch(ScratchUse use = ScratchUse::work);

}  // namespace qkv
