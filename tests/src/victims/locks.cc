// AB-BA of two std::mutex.
#include <latch>
#include <mutex>
#include <thread>
int main() {
    std::mutex a, b;
    std::latch both(2);
    auto take = [&](std::mutex &one, std::mutex &other) {
        std::lock_guard first(one);
        both.arrive_and_wait();
        std::lock_guard second(other);
    };
    std::thread x([&] { take(a, b); }), y([&] { take(b, a); });
    x.join();
    y.join();
}
