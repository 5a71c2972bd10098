# A TCP server as server.py is one, and a thread per connection. `lock` takes two mutexes, every other time in the
# opposite order.
require 'socket'

locks = [Mutex.new, Mutex.new]
asked = 0
server = TCPServer.new('127.0.0.1', ARGV[1].to_i)
loop do
  Thread.new(server.accept) do |connection|
    while (line = connection.gets)
      if line.start_with?('lock')
        first = (asked += 1) % 2
        locks[first].lock
        sleep 0.5
        locks[1 - first].lock
      end
      connection.puts 'done'
    end
  end
end
