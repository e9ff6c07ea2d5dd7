// Conversions between float and the narrower types: one number at a time against their definition, and whole rows, for every
// instruction set, against the scalar twin.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/half.h"
#include "kernels/rows.h"
#include "tests/kernels/twins.h"

namespace qkv::kernels::testing {
namespace {

// One narrow type: its conversions, its infinity and its quiet bit.
struct Narrow {
  const char* name;
  float (*widen)(std::uint16_t);
  std::uint16_t (*narrow)(float);
  std::uint32_t infinity, quiet;
  void (*RowKernels::*widen_row)(const std::uint16_t*, std::int64_t, float*);
  void (*RowKernels::*narrow_row)(const float*, std::int64_t, std::uint16_t*);
};
const Narrow kTypes[] = {
    {"half", half_to_float, float_to_half, 0x7c00, 0x200, &RowKernels::widen_half,
     &RowKernels::narrow_half},
    {"bfloat16", bfloat16_to_float, float_to_bfloat16, 0x7f80, 0x40, &RowKernels::widen_bfloat16,
     &RowKernels::narrow_bfloat16},
};

bool is_nan(const Narrow& type, std::uint16_t bits) { return (bits & 0x7fff) > type.infinity; }

// Equal, or both a quiet NaN of the same sign: what else a NaN holds is not promised.
bool same_narrow(const Narrow& type, std::uint16_t a, std::uint16_t b) {
  if (!is_nan(type, a)) return a == b;
  return is_nan(type, b) && (a & b & type.quiet) != 0 && (a & 0x8000) == (b & 0x8000);
}
bool same_float(float a, float b) {
  return std::isnan(a) ? std::isnan(b) && std::signbit(a) == std::signbit(b)
                       : bits_of(a) == bits_of(b);
}

// Every narrow number comes back; NaN comes back as a quiet NaN of its sign.
TEST(Convert, EveryNarrowNumberIsAFloatAndComesBack) {
  for (const Narrow& type : kTypes)
    for (std::uint32_t i = 0; i < 0x10000; ++i) {
      const auto bits = static_cast<std::uint16_t>(i);
      const float wide = type.widen(bits);
      ASSERT_EQ(std::isnan(wide), is_nan(type, bits)) << type.name << ' ' << i;
      const auto expected = static_cast<std::uint16_t>(is_nan(type, bits) ? i | type.quiet : i);
      ASSERT_TRUE(same_narrow(type, type.narrow(wide), expected)) << type.name << ' ' << i;
    }
}

// Between each number and the next: below the middle goes down, above it up, the middle to the even one. What would be the
// number after the largest is infinity.
TEST(Convert, NarrowingRoundsToTheNearestAndTiesToEven) {
  for (const Narrow& type : kTypes)
    for (std::uint32_t i = 0; i < type.infinity; ++i) {
      const auto low = static_cast<std::uint16_t>(i);
      const auto high = static_cast<std::uint16_t>(i + 1);
      const double from = static_cast<double>(type.widen(low));
      const double to = high < type.infinity      ? static_cast<double>(type.widen(high))
                        : type.infinity == 0x7c00 ? 65536
                                                  : 0x1p128;
      const auto middle = static_cast<float>((from + to) / 2);
      ASSERT_EQ(static_cast<double>(middle), (from + to) / 2) << "the middle is a float";
      const std::uint16_t even = low % 2 == 0 ? low : high;
      for (const int sign : {0, 0x8000}) {
        const auto narrow = [&](float x) { return type.narrow(sign != 0 ? -x : x); };
        ASSERT_EQ(narrow(middle), even | sign) << type.name << ' ' << i;
        ASSERT_EQ(narrow(std::nextafter(middle, 0.0f)), low | sign) << type.name << ' ' << i;
        ASSERT_EQ(narrow(std::nextafter(middle, kInfinity)), high | sign) << type.name << ' ' << i;
      }
    }
}

TEST(Convert, NumbersBeyondTheLargestAreInfinite) {
  for (const Narrow& type : kTypes) {
    ASSERT_EQ(type.narrow(kInfinity), type.infinity);
    ASSERT_EQ(type.narrow(-kInfinity), type.infinity | 0x8000);
    ASSERT_EQ(type.narrow(std::numeric_limits<float>::max()), type.infinity);
    ASSERT_EQ(type.narrow(std::numeric_limits<float>::denorm_min()), 0);
    ASSERT_EQ(type.narrow(-std::numeric_limits<float>::denorm_min()), 0x8000);
  }
  EXPECT_EQ(float_to_half(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_half(65520), 0x7c00);
  EXPECT_EQ(float_to_half(1e30f), 0x7c00);
}

class ConvertRows : public EveryIsa {
 protected:
  const RowKernels& rows() const { return *row_kernels_of(kernel().name); }
};
QKV_FOR_EVERY_ISA(ConvertRows);

constexpr int kRowLengths[] = {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65};

// `count` elements one element after the allocation, with one behind them that must stay.
template <class T>
struct Row {
  Row(int count, T mark) : all(static_cast<std::size_t>(count) + 2, mark) {}
  T* data() { return all.data() + 1; }
  std::vector<T> all;
};

TEST_P(ConvertRows, WidenEveryPatternInRowsOfAnyLength) {
  for (const Narrow& type : kTypes) {
    std::uint32_t next = 0;
    while (next < 0x10000)
      for (const int count : kRowLengths) {
        Row<std::uint16_t> from(count, 0x1234);
        for (int i = 0; i < count; ++i) from.data()[i] = static_cast<std::uint16_t>(next++);
        Row<float> to(count, 777);
        (rows().*type.widen_row)(from.data(), count, to.data());
        for (int i = 0; i < count; ++i)
          ASSERT_TRUE(same_float(to.data()[i], type.widen(from.data()[i])))
              << type.name << ' ' << from.data()[i];
        ASSERT_EQ(to.all.front(), 777);
        ASSERT_EQ(to.all.back(), 777) << count << " numbers";
      }
  }
  std::uint32_t next = 0;
  while (next < 0x1000)
    for (const int count : kRowLengths) {
      Row<std::int8_t> from(count, 1);
      for (int i = 0; i < count; ++i) from.data()[i] = static_cast<std::int8_t>(next++ & 0xff);
      Row<float> to(count, 777);
      rows().widen_int8(from.data(), count, to.data());
      for (int i = 0; i < count; ++i) ASSERT_EQ(to.data()[i], static_cast<float>(from.data()[i]));
      ASSERT_EQ(to.all.front(), 777);
      ASSERT_EQ(to.all.back(), 777) << count << " numbers";
    }
}

// Floats around every narrow number: itself, the middles on both sides, and their neighbours.
std::vector<float> floats_around(const Narrow& type) {
  std::vector<float> numbers;
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const float wide = type.widen(static_cast<std::uint16_t>(i));
    const float next = type.widen(static_cast<std::uint16_t>(i + 1));
    const double middle = (static_cast<double>(wide) + static_cast<double>(next)) / 2;
    // what would be the middle to the next number is where infinity begins
    const std::uint32_t bits = std::isfinite(middle)
                                   ? bits_of(static_cast<float>(middle))
                                   : bits_of(wide) + (type.infinity == 0x7c00 ? 0x1000 : 0x8000);
    for (const std::uint32_t each : {bits_of(wide), bits - 1, bits, bits + 1})
      numbers.push_back(std::bit_cast<float>(each));
  }
  Random random(6);
  for (int i = 0; i < 100'000; ++i)
    numbers.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random.bits())));
  return numbers;
}

TEST_P(ConvertRows, NarrowIsItsTwinInRowsOfAnyLength) {
  for (const Narrow& type : kTypes) {
    const std::vector<float> numbers = floats_around(type);
    for (std::size_t next = 0; next < numbers.size();)
      for (const int count : kRowLengths) {
        Row<float> from(count, 0.5f);
        for (int i = 0; i < count && next < numbers.size(); ++i) from.data()[i] = numbers[next++];
        Row<std::uint16_t> to(count, 0x1234);
        (rows().*type.narrow_row)(from.data(), count, to.data());
        for (int i = 0; i < count; ++i)
          if (!same_narrow(type, to.data()[i], type.narrow(from.data()[i])))
            FAIL() << type.name << ' ' << from.data()[i] << ": " << to.data()[i];
        ASSERT_EQ(to.all.front(), 0x1234);
        ASSERT_EQ(to.all.back(), 0x1234) << count << " numbers";
      }
  }
}

// One multiplication a number: the bits of the twin, and of no other row.
TEST_P(ConvertRows, ScaleRowsIsItsTwin) {
  Random random(7);
  for (const int count : {0, 1, 2, 15, 16, 17, 63, 65, 128}) {
    Floats factor(count, random, -2, 2);
    if (count > 1) factor[1] = 0;
    if (count > 2) factor[2] = kInfinity;
    Floats scores(std::int64_t{count} * panel(), random, -3, 3);
    if (count > 15) {
      scores[15 * panel()] = -kInfinity;
      scores[15 * panel() + 1] = kNaN;
    }
    const Floats before = scores;
    kernel().scale_rows(scores.data(), count, factor.data());
    for (int first = 0; first < panel(); first += scalar::kPanel) {
      Floats expected = group(before, panel(), first);
      scalar::scale_rows(expected.data(), count, factor.data());
      const Floats got = group(scores, panel(), first);
      for (std::int64_t i = 0; i < got.size(); ++i)
        ASSERT_TRUE(same_float(got[i], expected[i]) ||
                    (std::isnan(got[i]) && std::isnan(expected[i])))
            << i;
    }
  }
}

}  // namespace
}  // namespace qkv::kernels::testing
