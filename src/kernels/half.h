// IEEE 754 half precision to and from float, one number at a time.
#pragma once

#include <bit>
#include <cstdint>

namespace qkv::kernels {

// Exact: every half is a float.
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t rest = half & 0x7fffu;
  if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
  // The exponent moves from bias 15 to bias 127; a multiplication does it for subnormal halves too.
  const float magnitude = std::bit_cast<float>(rest << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

// True if the float is finite and some half is the same number; *half receives it.
inline bool float_is_half(float value, std::uint16_t* half) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t rest = bits & 0x7fffffffu;
  const int exponent = static_cast<int>(rest >> 23) - 127;
  if (rest == 0) {
    *half = static_cast<std::uint16_t>(sign);
    return true;
  }
  if (exponent > 15 || exponent < -24) return false;
  const std::uint32_t mantissa = (rest & 0x7fffffu) | 0x800000u;
  // Normal halves keep 10 bits after the leading one; subnormal ones (below 2^−14) lose one more per binade.
  const int shift = exponent >= -14 ? 13 : -1 - exponent;
  if (mantissa & ((1u << shift) - 1)) return false;
  const std::uint32_t kept = mantissa >> shift;
  const std::uint32_t magnitude =
      exponent >= -14 ? (static_cast<std::uint32_t>(exponent + 15) << 10) + (kept & 0x3ffu) : kept;
  *half = static_cast<std::uint16_t>(sign | magnitude);
  return true;
}

// The nearest half, ties to even; overflow gives infinity, NaN a quiet NaN.
inline std::uint16_t float_to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (rest >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above
  if (rest < 0x38800000u) {
    // below 2^−14 halves are whole multiples of 2^−24: adding 0.5 leaves that many in the last bits, rounded to nearest even
    const float shifted = std::bit_cast<float>(rest) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = rest + 0xfffu + ((rest >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

// The nearest bfloat16, ties to even; overflow gives infinity, NaN a quiet NaN.
inline std::uint16_t float_to_bfloat16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float bfloat16_to_float(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

}  // namespace qkv::kernels
