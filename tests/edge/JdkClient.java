import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Base64;

/** Sends what it reads, one request a line: method, URL, body in base64 or "-"; prints status and body in base64. All defaults. */
class JdkClient {
    public static void main(String[] fields) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(words[1])).headers(fields);
            if (words[2].equals("-")) {
                request.method(words[0], HttpRequest.BodyPublishers.noBody());
            } else {
                request.method(words[0], HttpRequest.BodyPublishers.ofByteArray(Base64.getDecoder().decode(words[2])));
            }
            HttpResponse<byte[]> answer = client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
            System.out.println(answer.statusCode() + " " + Base64.getEncoder().encodeToString(answer.body()));
        }
    }
}
