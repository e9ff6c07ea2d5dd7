// From what the queries said to what a user gets: which objects, and their masks in the picture's own pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "models/finder/config.h"
#include "models/finder/finder.h"

namespace qkv::models::finder {

// Where a picture of width × height pixels lies in the square that the model saw: its pixel (x, y) at
// (left + scale·x, top + scale·y).
struct Frame {
  std::int64_t width = 0;
  std::int64_t height = 0;
  float scale = 1;
  float left = 0;
  float top = 0;

  // The largest that fits, in the middle, its proportions kept.
  static Frame fit(std::int64_t width, std::int64_t height, int image);
};

// What lies around it there, in each colour: grey. Finders are trained on whole squares, and grey is nothing that a prompt names.
inline constexpr float kAround = 0.5f;

// The scores are the best of those that training/finder/thresholds.py tried on held-out pictures.
struct Thresholds {
  float presence = 0.5f;  // from which on the picture is believed to hold what the prompt names
  float score = 0.3f;     // from which on a query stands for an object
  float same = 0.5f;      // two masks that overlap by more (intersection over union) are one object
};

struct Object {
  int query = 0;  // which one found it; its row on a tape is query + 1, after the presence token
  float score = 0;
  Box box;                         // in fractions of the square that the model saw
  std::vector<std::uint8_t> mask;  // [height, width], 1 where the object is
};

struct Answer {
  float presence = 0;           // probability that the picture holds what the prompt names
  bool present = false;         // it is at its threshold or above
  std::vector<Object> objects;  // best first; none unless present
};

struct PixelBox {  // x, y: the upper left corner, in pixels of the picture
  float x = 0;
  float y = 0;
  float width = 0;
  float height = 0;
};

// The part of the box that lies in the picture.
PixelBox in_picture(const Box& box, const Config& config, const Frame& frame);

// Throws std::invalid_argument for a frame without pixels.
Answer answer(const Output& output, const Config& config, const Frame& frame,
              const Thresholds& thresholds = {});

}  // namespace qkv::models::finder
