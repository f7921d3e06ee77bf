/** What the console uses of clients/typescript. */

interface Following {
  close(): void;
}

interface FollowOptions {
  url?: string | URL;
  hiddenAfter?: number | false;
  WebSocket?: new (url: string, protocols: string[]) => WebSocket;
  onEvent(event: Api.LogEvent): void;
  onBeat(): void;
  onReset(): void;
  onConnection(connection: "connecting" | "live" | "reconnecting" | "paused" | "ended", error?: Error): void;
}

export function followLog(options: FollowOptions): Following;
