// A TCP server as server.py is one, and a thread per connection. `lock` takes two monitors, every other time in the
// opposite order.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.concurrent.atomic.AtomicInteger;

public class Server {
    static final Object[] locks = {new Object(), new Object()};
    static final AtomicInteger asked = new AtomicInteger();

    static void lock() throws InterruptedException {
        int first = asked.getAndIncrement() % 2;
        synchronized (locks[first]) {
            Thread.sleep(500);
            synchronized (locks[1 - first]) {
                asked.incrementAndGet();
            }
        }
    }

    static void serve(Socket socket) {
        try (socket; var lines = new BufferedReader(new InputStreamReader(socket.getInputStream()))) {
            for (String line; (line = lines.readLine()) != null; ) {
                if (line.startsWith("lock")) lock();
                socket.getOutputStream().write("done\n".getBytes());
            }
        } catch (Exception e) {
            throw new RuntimeException(e);
        }
    }

    public static void main(String[] args) throws Exception {
        var listener = new ServerSocket(Integer.parseInt(args[1]), 16, InetAddress.getByName("127.0.0.1"));
        while (true) {
            Socket socket = listener.accept();
            new Thread(() -> serve(socket)).start();
        }
    }
}
