#include "picture/jpeg.h"

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it before itself

#include <jpeglib.h>
// clang-format off
#include <jerror.h>  // after jpeglib.h
// clang-format on

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "picture/orientation.h"

namespace qkv::picture {
namespace {

// A progressive file of a few kilobytes can ask for thousands of passes over every pixel; real ones have about ten.
constexpr int kMostScans = 200;
constexpr std::size_t kLeastRoom = 4096;
constexpr int kQuality = 92;  // of 100: a person sees no difference
constexpr std::string_view kExif{"Exif\0\0", 6};

// What decoder and encoder share: libjpeg's errors. It reports them by calling `stop`, which must not return: it jumps back into
// `step`, past frames of libjpeg and of a lambda only, none of which has anything to destroy.
class Guarded {
 public:
  Guarded() {
    jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr common) {
      static_cast<Guarded*>(common->client_data)->stop();
    };
    errors_.output_message = [](j_common_ptr) {};
  }
  virtual ~Guarded() = default;
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  // Runs calls of libjpeg; what they complain about is thrown as Error.
  template <typename Calls>
  void step(const Calls& calls) {
    if (setjmp(back_) != 0) throw Error(complaint());
    calls();
  }

 protected:
  // To be called before libjpeg is.
  template <typename Info>
  void guard(Info& info) {
    info.err = &errors_;
    info.client_data = this;
    common_ = reinterpret_cast<j_common_ptr>(&info);
  }
  [[noreturn]] void stop() { longjmp(back_, 1); }
  std::string text() const {
    char text[JMSG_LENGTH_MAX];
    errors_.format_message(common_, text);
    return text;
  }
  virtual std::string complaint() const = 0;

  jpeg_error_mgr errors_{};

 private:
  j_common_ptr common_ = nullptr;
  std::jmp_buf back_{};
};

class Decoder : public Guarded {
 public:
  Decoder() {
    guard(info);
    errors_.emit_message = [](j_common_ptr common, int level) {
      if (level < 0) self(common).warned();
    };
    progress_.progress_monitor = [](j_common_ptr common) {
      Decoder& decoder = self(common);
      if (decoder.info.input_scan_number > kMostScans) {
        decoder.too_many_scans_ = true;
        decoder.stop();
      }
    };
    step([this] { jpeg_create_decompress(&info); });
    info.progress = &progress_;
  }
  ~Decoder() override { jpeg_destroy_decompress(&info); }

  bool damaged() const { return errors_.num_warnings > 0; }

  jpeg_decompress_struct info{};

 private:
  static Decoder& self(j_common_ptr common) {
    return static_cast<Decoder&>(*static_cast<Guarded*>(common->client_data));
  }
  void warned() {
    ++errors_.num_warnings;
    if (errors_.msg_code != JWRN_JPEG_EOF) return;
    cut_ = true;
    stop();
  }
  std::string complaint() const override {
    if (cut_) return "is a truncated JPEG: it ends before its pixels do";
    if (too_many_scans_) return "is a JPEG with more than " + std::to_string(kMostScans) + " scans";
    return "is no JPEG that can be read: " + text();
  }

  jpeg_progress_mgr progress_{};
  bool cut_ = false;
  bool too_many_scans_ = false;
};

class Encoder : public Guarded {
 public:
  // room: bytes the file most likely has at most; libjpeg finds more where it needs more
  explicit Encoder(std::size_t room)
      : room_(std::make_unique_for_overwrite<unsigned char[]>(room)),
        data_(room_.get()),
        size_(room) {
    guard(info);
    step([this] {
      jpeg_create_compress(&info);
      jpeg_mem_dest(&info, &data_, &size_);
    });
  }
  ~Encoder() override {
    jpeg_destroy_compress(&info);
    if (data_ != room_.get()) std::free(data_);
  }

  // Of a finished file; libjpeg says where it lies at the very end only.
  Bytes written() const { return {data_, size_}; }

  jpeg_compress_struct info{};

 private:
  std::string complaint() const override { return "cannot be written as JPEG: " + text(); }

  std::unique_ptr<unsigned char[]> room_;
  unsigned char* data_;  // in room_, or of malloc
  unsigned long size_;
};

int orientation_of(const jpeg_decompress_struct& info) {
  for (auto* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    const Bytes data(marker->data, marker->data_length);
    if (marker->marker == JPEG_APP0 + 1 && data.size() > kExif.size() &&
        std::equal(kExif.begin(), kExif.end(), data.begin()))
      return exif_orientation(data.subspan(kExif.size()));
  }
  return kUpright;
}

// One row of inks, four bytes a pixel, to light: what each ink leaves, times what black leaves. Adobe stores what is left.
void inks_to_rgb(const std::uint8_t* inks, std::int64_t width, bool adobe, std::uint8_t* rgb) {
  const int flip = adobe ? 0 : 255;
  for (std::int64_t x = 0; x < width; ++x)
    for (int c = 0; c < 3; ++c)
      rgb[3 * x + c] = static_cast<std::uint8_t>(
          ((inks[4 * x + c] ^ flip) * (inks[4 * x + 3] ^ flip) + 127) / 255);
}

}  // namespace

bool is_jpeg(Bytes file) {
  return file.size() >= 3 && file[0] == 0xFF && file[1] == 0xD8 && file[2] == 0xFF;
}

Image decode_jpeg(Bytes file, const Limits& limits, int& orientation) {
  Decoder decoder;
  jpeg_decompress_struct& info = decoder.info;
  decoder.step([&] {
    jpeg_mem_src(&info, file.data(), static_cast<unsigned long>(file.size()));
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&info, TRUE);
  });
  check_size(info.image_width, info.image_height, limits);
  orientation = orientation_of(info);

  const bool inks = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = inks ? JCS_CMYK : JCS_RGB;
  const std::int64_t width = info.image_width, height = info.image_height;
  Image image{width, height,
              std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3)), false};
  std::vector<std::uint8_t> row(static_cast<std::size_t>(inks ? width * 4 : 0));
  decoder.step([&] {
    jpeg_start_decompress(&info);
    while (info.output_scanline < info.output_height) {
      std::uint8_t* to = image.rgb.data() + info.output_scanline * width * 3;
      JSAMPROW into = inks ? row.data() : to;
      jpeg_read_scanlines(&info, &into, 1);
      if (inks) inks_to_rgb(row.data(), width, info.saw_Adobe_marker != 0, to);
    }
  });
  image.damaged = decoder.damaged();
  return image;
}

std::vector<std::uint8_t> encode_jpeg(const Image& image) {
  Encoder encoder(kLeastRoom + image.rgb.size() / 3);
  jpeg_compress_struct& info = encoder.info;
  encoder.step([&] {
    info.image_width = static_cast<JDIMENSION>(image.width);
    info.image_height = static_cast<JDIMENSION>(image.height);
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, kQuality, TRUE);
    info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;  // outlines stay sharp
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
      // libjpeg's rows are not const, and it does not write to them
      auto* row = const_cast<JSAMPLE*>(image.rgb.data() + info.next_scanline * image.width * 3);
      jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
  });
  const Bytes written = encoder.written();
  return {written.begin(), written.end()};
}

}  // namespace qkv::picture
