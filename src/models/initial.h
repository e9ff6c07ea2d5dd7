// The weights that training begins with: the distributions of training/translate/model.py (`start`), from a seed of our own.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace qkv::models {

// The tensor that transformers calls `name`, before training. Matrices [out, in]: uniform within ±√(6 / (in + out)) (Glorot &
// Bengio 2010). Embeddings [count, width]: normal with deviation width^−½, row `blank` (the padding's, which is the decoder's
// start; −1: none) 0. Biases 0, gains of normalisations 1.
//
// Seeds: every tensor draws from a std::mt19937_64 of its own, seeded with `seed` xor the 64-bit FNV-1a hash of its name, so that
// its numbers depend on nothing else. A draw u is the upper 53 bits of one output, as a fraction; a normal number is
// √(−2 ln(1 − u))·cos(2π u′) of two draws (Box & Muller 1958).
std::vector<float> initial_tensor(std::string_view name, std::span<const std::int64_t> shape,
                                  std::uint64_t seed, std::int64_t blank);

}  // namespace qkv::models
