// How long a picture takes on its way through `qkv find`, step by step: medians in milliseconds.
//   find_picture FOLDER PICTURE [--threads N] [--prompt TEXT] [--repeats N]
// FOLDER holds the finder and its vocabulary, or the vocabulary is the bundled translator's.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "models/finder/answer.h"
#include "models/finder/finder.h"
#include "models/model_path.h"
#include "models/tokenizer.h"
#include "picture/decode.h"
#include "picture/resize.h"
#include "picture/rle.h"

namespace {

double median_ms(int repeats, const std::function<void()>& step) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    step();
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<std::size_t>(repeats / 2)];
}

}  // namespace

int main(int argc, char** argv) {
  using namespace qkv;
  std::string folder, path, prompt = "red car";
  int threads = 2, repeats = 21;
  CLI::App app("Times the steps of qkv find");
  app.add_option("FOLDER", folder)->required();
  app.add_option("PICTURE", path)->required();
  app.add_option("--threads", threads);
  app.add_option("--prompt", prompt);
  app.add_option("--repeats", repeats)->check(CLI::Range(1, 100'000));
  CLI11_PARSE(app, argc, argv);

  const auto finder = models::finder::Finder::load(models::find_model(folder));
  const std::filesystem::path own = models::find_model(folder);
  const auto tokenizer = models::Tokenizer::load(
      std::filesystem::exists(own / "source.spm") ? own : models::find_model("translate-en-zh"));
  std::ifstream stream(path, std::ios::binary);
  const std::vector<std::uint8_t> file((std::istreambuf_iterator<char>(stream)),
                                       std::istreambuf_iterator<char>());
  std::vector<int> pieces;
  for (const models::Piece& piece : tokenizer.encode(prompt, "")) pieces.push_back(piece.id);

  picture::Image image;
  std::vector<float> square;
  models::finder::Frame frame;
  models::finder::Picture seen;
  models::finder::Output output;
  models::finder::Answer answer;
  const auto decode = [&] { image = picture::decode(file); };
  const auto shrink = [&] {
    frame = models::finder::Frame::fit(image.width, image.height, finder.config().image);
    square = picture::in_square(image, {frame.scale, frame.left, frame.top}, finder.config().image,
                                models::finder::kAround);
  };
  const auto look = [&] { seen = finder.look(square, threads); };
  const auto ask = [&] { output = finder.ask(seen, pieces, threads); };
  const auto masks = [&] {
    answer = models::finder::answer(output, finder.config(), frame);
    for (const auto& object : answer.objects)
      picture::coco_counts(object.mask, frame.height, frame.width);
  };
  const std::pair<const char*, std::function<void()>> steps[] = {
      {"decode", decode}, {"square", shrink}, {"picture", look}, {"prompt", ask}, {"masks", masks}};
  for (const auto& [name, step] : steps)
    std::printf("%-8s %8.2f ms\n", name, median_ms(repeats, step));
  const double all = median_ms(repeats, [&] {
    for (const auto& [name, step] : steps) step();
  });
  std::printf("%-8s %8.2f ms, %lld×%lld pixels, %zu objects, %d threads\n", "all", all,
              static_cast<long long>(image.width), static_cast<long long>(image.height),
              answer.objects.size(), threads);
}
