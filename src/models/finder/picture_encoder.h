// What a picture is to the finder: tokens that attended to each other, and a vector for every pixel at 1/patch of its size.
#pragma once

#include <cstdint>
#include <vector>

#include "layers/linear.h"
#include "layers/maps.h"
#include "layers/norm.h"
#include "models/checkpoint.h"
#include "models/finder/blocks.h"
#include "models/finder/config.h"

namespace qkv::models::finder {

class PictureEncoder {
 public:
  PictureEncoder() = default;
  PictureEncoder(const Checkpoint& file, const Config& config);

  // rgb [image, image, 3] in [0, 1] → tokens [side², width], pixels [mask_side², pixel]. The tape receives "picture.N.self".
  void forward(const float* rgb, float* tokens, float* pixels, int threads,
               layers::AttentionTape* tape) const;

 private:
  Config config_;
  layers::Linear patch_;
  layers::LocalBlock fine_;
  layers::Linear to_middle_;
  std::vector<layers::LocalBlock> middle_;
  layers::Linear to_tokens_;
  layers::Buffer position_;  // [side², width]
  std::vector<EncoderBlock> layers_;
  layers::LayerNorm norm_;
  layers::Linear token_pixels_;
  layers::Linear middle_pixels_;
  layers::Linear fine_pixels_;
  layers::LocalBlock pixel_;
  layers::LayerNorm pixel_norm_;
  layers::FeedForward sharpen_;
};

}  // namespace qkv::models::finder
