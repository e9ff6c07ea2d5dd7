// The shape of a panel in vectors of one vec_*.h, which is included before this file.
#pragma once

#include "kernels/kernels.h"

namespace qkv::kernels {
namespace {

inline constexpr int kPanel = kLanes * kPanelVecs;
static_assert(kPanel <= kMaxPanel);
inline constexpr float kInfinity = __builtin_inff();

}  // namespace
}  // namespace qkv::kernels
