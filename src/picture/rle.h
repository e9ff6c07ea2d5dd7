// Masks as COCO stores them: run lengths over columns, top to bottom, first of zeros, in a string of printable characters.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace qkv::picture {

// mask [height, width], 0 or not 0 → the "counts" of a COCO segmentation {"size": [height, width], "counts": "…"}. The
// string holds each run less the one two before it (from the fourth on) in groups of 5 bits, the lowest first: a character is
// 48 + bits + 32 if more follow, and the sign is that of the last group.
std::string coco_counts(std::span<const std::uint8_t> mask, std::int64_t height,
                        std::int64_t width);

}  // namespace qkv::picture
