// The levels of the hand-written scanner of the baselines, alone: ns per level of JSON arrays of quoted pairs in a file, one a
// line. It trusts every byte, and knows the scale; what it reads it stores as ours does.
//     levels_limit FILE PASSES
#include "limit_scanner.hpp"
#include <fstream>
#include <sstream>
#include <vector>

struct Store {
  std::vector<std::pair<i64, i64>> levels;
  void set(int, i64 price, i64 qty) { levels.emplace_back(price, qty); }
};

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  SimdNum::init();
  std::stringstream all;
  all << std::ifstream(argv[1]).rdbuf();
  std::string text = all.str();
  text.append(64, ' ');  // it loads 16 bytes at a time
  const char* end = text.data() + text.size() - 64;
  Store store;
  std::vector<double> times;
  size_t count = 0;
  i64 total = 0;
  for (int pass = 0; pass < atoi(argv[2]); ++pass) {
    timespec from, to;
    count = 0;
    total = 0;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    for (const char* p = text.data(); p < end; ++p) {
      store.levels.clear();
      p = levels<SimdNum>(store, 0, p);
      count += store.levels.size();
      if (!store.levels.empty()) total += store.levels.back().first;
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    times.push_back((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec));
  }
  std::sort(times.begin(), times.end());
  printf("{\"levels\":%zu,\"total\":%lld,\"ns\":%.3f}\n", count, (long long)total, times[times.size() / 2] / count);
}
