// What a prompt found in a picture: the objects, or that there are none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lens/find_reading.h"

namespace qkv::lens {

// Lengths in pixels of the picture.
struct FoundObject {
  float score = 0;
  float x = 0;  // of the box: its upper left corner
  float y = 0;
  float width = 0;
  float height = 0;
  std::int64_t area = 0;  // pixels of the mask
  std::string counts;     // the mask as COCO's compressed run lengths (picture/rle.h)
};

struct FindReport {
  std::string prompt;
  std::string language;  // of the prompt: "en", "zh"
  std::string file;
  std::string model;
  std::int64_t width = 0;
  std::int64_t height = 0;
  float presence = 0;                  // probability that the picture holds what the prompt names
  bool present = false;                // that is enough to believe it
  std::vector<FoundObject> objects;    // best first
  std::optional<FindReadings> read{};  // what each of them read, if it was asked for
};

// For a report without objects, in the prompt's language: "nothing here is a red car (probability that something is: 2.1%)".
std::string nothing_found(const FindReport& report);

}  // namespace qkv::lens
